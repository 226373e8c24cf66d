"""Logits of images that change in one window: a layer is computed again only where the change reaches.

Square Attack (Andriushchenko et al., ECCV 2020) asks thousands of times about images that differ from known ones in a
square of a few pixels, the same square for all of them. A convolution spreads a change by its kernel, so what the first
layers give, the largest ones, is mostly as it was. Nothing is approximated, and rounding does not accumulate: what is
computed again is computed by the same convolution from its exact inputs.
"""

import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advbench.benchmark.attacks.autoattack.network_view import NetworkView

_LARGEST_SHARE = 0.6
_LEAST_SAVED = 2e6
"""A convolution is computed in part if at most this share of its outputs changes, and at least so many
multiplications are saved: windows cost copies and calls."""
_POINTWISE = {F.relu, torch.relu, operator.add, torch.add, operator.sub, operator.mul, operator.truediv}
_POINTWISE_MODULES = (nn.ReLU, nn.BatchNorm2d, nn.Identity)


class Window(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, images: Tensor) -> Tensor:
        """Return these pixels of images (n, C, H, W), a view."""
        return images[:, :, self.top : self.top + self.height, self.left : self.left + self.width]

    def within(self, other: "Window") -> "Window":
        """Return the part of this window that lies in `other`, in its coordinates."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        right = min(self.left + self.width, other.left + other.width)
        return Window(top - other.top, left - other.left, max(bottom - top, 0), max(right - left, 0))


@dataclass
class _Node:
    """A node of the graph that is computed in part.

    Attributes:
        size: (H, W) of what it gives.
        window: (H, W) of the part that changes.
        layer: the convolution it calls; None for the input and what is done pixel by pixel.
        keep: whether what it gives is kept; else its one reader computes it, pixel by pixel, in passing.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    layer: nn.Conv2d | None = None
    keep: bool = True


class Incremental:
    """Images and what layers make of them, for questions about one window at a time."""

    def __init__(self, view: NetworkView, images: Tensor) -> None:
        self.view = view
        self.graph = _graph(view.network.network)
        self.rest = fx.Interpreter(self.graph)
        self.input: fx.Node = next(iter(self.graph.graph.nodes))
        self.nodes: dict[fx.Node, _Node] = {}
        self.kept = {self.input: images}
        self.changed: dict[fx.Node, tuple[Window, Tensor]] = {}

    @property
    def images(self) -> Tensor:
        """The images, (n, C, H, W); `accept` changes them."""
        return self.kept[self.input]

    def begin(self, side: int) -> Tensor:
        """Prepare for windows of this side; return the logits of the images."""
        images, n = self.images, len(self.images)
        self.nodes, self.kept = _partial(self.graph, images.shape, side), {self.input: images}
        if not self.nodes:
            return self.view.logits(images)
        missing = max(self.view.fewest - n, 0)
        filled = torch.cat([images, images[:1].expand(missing, *images.shape[1:])])
        recorder = _Recorder(self.graph, [node for node in self.nodes if self.nodes[node].keep])
        with torch.no_grad():
            logits: Tensor = self.view.outlet(recorder.run(filled))
        self.kept |= {node: value[:n] for node, value in recorder.kept.items()}
        return logits[:n]

    def ask(self, window: Window, pixels: Tensor, rows: Tensor) -> Tensor:
        """Return the logits of the images `rows` with other pixels (len(rows), C, height, width) in the window."""
        n = len(rows)
        if n < self.view.fewest:
            some = torch.arange(self.view.fewest, device=rows.device) % n
            pixels, rows = pixels[some], rows[some]
        self.changed = {self.input: (window, pixels)}
        if self.nodes:
            with torch.no_grad():
                return self._spread(window, rows)[:n]
        images = _rows(self.images, rows)
        window.of(images).copy_(pixels)
        return self.view.logits(images)[:n]

    def accept(self, rows: Tensor, among: Tensor) -> None:
        """Change the images `rows` as was asked last; `among` are their places in that question."""
        for node, (window, pixels) in self.changed.items():
            window.of(self.kept[node])[rows] = pixels[among]

    def retain(self, active: Tensor) -> None:
        """Go on with these images alone."""
        self.kept = {node: value[active] for node, value in self.kept.items()}

    def _spread(self, window: Window, rows: Tensor) -> Tensor:
        """Compute the windows that change from node to node, and then the rest of the network as a whole."""
        reached = {self.input: window}
        for node, known in self.nodes.items():
            sources = [reached[source] for source in node.all_input_nodes if source in reached]
            reached[node] = _around(sources) if known.layer is None else _reach(known.layer, sources[0], known.size)
            if known.keep:
                self.changed[node] = reached[node], self._compute(node, reached[node], rows)
        values: dict[fx.Node, Any] = dict.fromkeys(reached)
        for node, known in self.nodes.items():
            if any(user not in reached for user in node.users):
                values[node] = self._value(node, Window(0, 0, *known.size), rows)
        logits: Tensor = self.view.outlet(self.rest.run(initial_env=values))
        return logits

    def _value(self, node: fx.Node, window: Window, rows: Tensor) -> Tensor:
        """Return what a node gives in a window under the change."""
        if node not in self.kept:
            return self._compute(node, window, rows)
        patch = _rows(window.of(self.kept[node]), rows)
        changed, pixels = self.changed[node]
        overlap = changed.within(window)
        if overlap.height and overlap.width:
            overlap.of(patch).copy_(window.within(changed).of(pixels))
        return patch

    def _compute(self, node: fx.Node, window: Window, rows: Tensor) -> Tensor:
        """Compute what a node gives in a window."""
        layer = self.nodes[node].layer
        if layer is not None:
            return self._convolved(layer, node.all_input_nodes[0], window, rows)

        def value(argument: fx.Node) -> Tensor:
            if argument.op != "get_attr":
                return self._value(argument, window, rows)
            constant: Tensor = operator.attrgetter(str(argument.target))(self.graph)
            return constant

        arguments, keywords = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        function = self.graph.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        found: Tensor = function(*arguments, **keywords)  # type: ignore[operator] # what a node calls is a function
        return found

    def _convolved(self, layer: nn.Conv2d, source: fx.Node, window: Window, rows: Tensor) -> Tensor:
        """Compute the outputs of a layer in a window; what they need of its input may reach into the padding."""
        (top, height), (left, width) = (
            (window[axis] * stride - padding, (window[axis + 2] - 1) * stride + kernel)
            for axis, (kernel, stride, padding) in enumerate(_spans(layer))
        )
        needed, whole = Window(top, left, height, width), Window(0, 0, *self.kept[source].shape[2:])
        inside = whole.within(needed)
        there = Window(needed.top + inside.top, needed.left + inside.left, inside.height, inside.width)
        patch = self._value(source, there, rows)
        if (inside.height, inside.width) != (height, width):
            below, right = height - inside.top - inside.height, width - inside.left - inside.width
            patch = F.pad(patch, (inside.left, right, inside.top, below))
        return F.conv2d(patch, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what some nodes give."""

    def __init__(self, graph: fx.GraphModule, nodes: list[fx.Node]) -> None:
        super().__init__(graph)
        self.kept: dict[fx.Node, Tensor] = {}
        self.nodes = set(nodes)

    def run_node(self, n: fx.Node) -> object:
        """Run one node."""
        value = super().run_node(n)
        if n in self.nodes:
            self.kept[n] = value.clone()  # a later node may write into it
        return value


def _graph(network: nn.Module) -> fx.GraphModule:
    """Return the graph of a traced network; of any other a graph of one node."""
    if isinstance(network, fx.GraphModule):
        return network
    graph = fx.Graph()
    graph.output(graph.call_module("network", (graph.placeholder("x"),)))
    return fx.GraphModule({"network": network}, graph)


def _rows(images: Tensor, rows: Tensor) -> Tensor:
    """Return images (R, C, H, W), channels last: indexing would copy pixel by pixel."""
    return images.movedim(1, -1).index_select(0, rows).movedim(-1, 1)


def _partial(graph: fx.GraphModule, shape: torch.Size, side: int) -> dict[fx.Node, _Node]:
    """Return, in order, the nodes worth computing in part for images (n, C, H, W); none if no convolution is."""
    first = next(iter(graph.graph.nodes))
    found = {first: _Node((shape[2], shape[3]), (side, side))}
    for node in graph.graph.nodes:
        sources = [found[source] for source in node.all_input_nodes if source in found]
        layer = _convolution(graph, node)
        if sources and layer is not None:
            made = _convolved(layer, sources[0])
            (height, width), (tall, wide) = made.size, made.window
            cost = shape[0] * height * width * layer.weight.numel()
            share = tall * wide / (height * width)
            if share <= _LARGEST_SHARE and (1 - share) * cost >= _LEAST_SAVED:
                found[node] = made
        elif sources and _pointwise(graph, node, found):
            found[node] = _Node(sources[0].size, max(source.window for source in sources))
    for node, known in found.items():
        reader = next(iter(node.users))
        known.keep = len(node.users) > 1 or reader not in found or found[reader].layer is not None
    del found[first]
    return found if any(known.layer for known in found.values()) else {}


def _convolution(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the convolution that a node calls, None if it does anything else."""
    layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    return layer


def _pointwise(graph: fx.GraphModule, node: fx.Node, found: dict[fx.Node, _Node]) -> bool:
    """Whether a node makes each pixel of that pixel of nodes found, all of one size, and of constants."""
    if node.op == "call_module":
        known = isinstance(graph.get_submodule(str(node.target)), _POINTWISE_MODULES)
    else:
        known = node.op == "call_function" and node.target in _POINTWISE

    def constant(source: fx.Node) -> bool:
        value = operator.attrgetter(str(source.target))(graph) if source.op == "get_attr" else None
        return isinstance(value, Tensor) and (value.dim() == 0 or value.shape[-2:] == (1, 1))

    sources = node.all_input_nodes
    sizes = {found[source].size for source in sources if source in found}
    return known and len(sizes) == 1 and all(source in found or constant(source) for source in sources)


def _spans(layer: nn.Conv2d) -> list[tuple[int, int, int]]:
    """Return for each axis how many pixels a kernel spans, its stride and its padding."""
    return [
        ((layer.kernel_size[axis] - 1) * layer.dilation[axis] + 1, layer.stride[axis], int(layer.padding[axis]))
        for axis in (0, 1)
    ]


def _convolved(layer: nn.Conv2d, source: _Node) -> _Node:
    """Return what a convolution of a node gives."""
    spans = _spans(layer)
    height, width = ((n + 2 * p - k) // s + 1 for n, (k, s, p) in zip(source.size, spans, strict=True))
    tall, wide = ((n + k - 2) // s + 1 for n, (k, s, _) in zip(source.window, spans, strict=True))
    return _Node((height, width), (min(tall, height), min(wide, width)), layer)


def _reach(layer: nn.Conv2d, window: Window, size: tuple[int, int]) -> Window:
    """Return a window that has all outputs of a layer that depend on a window of its input.

    Windows of one size give windows of one size, so that the shapes of convolutions are few: at the edges and between
    strides they take in more than they must.
    """
    found = []
    for axis, (kernel, stride, padding) in enumerate(_spans(layer)):
        reach = min((window[axis + 2] + kernel - 2) // stride + 1, size[axis])
        first = -((kernel - 1 - padding - window[axis]) // stride)
        found.append((min(max(first, 0), size[axis] - reach), reach))
    (top, height), (left, width) = found
    return Window(top, left, height, width)


def _around(windows: list[Window]) -> Window:
    """Return the smallest window that contains all."""
    top, left = min(w.top for w in windows), min(w.left for w in windows)
    bottom, right = max(w.top + w.height for w in windows), max(w.left + w.width for w in windows)
    return Window(top, left, bottom - top, right - left)
