import hashlib
import logging
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from advbench.benchmark.attacks import autoattack, pgd, random_starts
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.robustbench import contained


@pytest.fixture
def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(5)
    return torch.rand(12, 1, 6, 6, generator=generator), torch.randint(10, (12,), generator=generator)


def philox_reference(key, counter, blocks):
    """Philox4x64-10 from the paper, in Python integers."""
    mask = (1 << 64) - 1
    out = []
    for block in range(1, blocks + 1):  # numpy raises the counter before each block
        c, k = list(counter), list(key)
        total = sum(word << (64 * i) for i, word in enumerate(c)) + block
        c = [(total >> (64 * i)) & mask for i in range(4)]
        for _ in range(10):
            p0, p1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(p1 >> 64) ^ c[1] ^ k[0], p1 & mask, (p0 >> 64) ^ c[3] ^ k[1], p0 & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        out += c
    return out


class TestStarts:
    def test_draws_are_philox_as_published(self):
        got = random_starts.uniform("digest", "pgd", [7], (1, 2, 3)).flatten()
        raw = hashlib.sha256(b"digest|pgd").digest()
        key = [int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:16], "little")]
        words = philox_reference(key, [0, 0, 0, 7], 2)[:6]
        expected = [float(Fraction(word >> 40, 2**23) - 1) for word in words]
        assert got.tolist() == expected

    def test_an_image_gets_the_same_numbers_in_any_batch(self):
        whole = random_starts.uniform("d", "pgd", range(10), (3, 4, 4))
        assert torch.equal(whole[4:7], random_starts.uniform("d", "pgd", [4, 5, 6], (3, 4, 4)))
        assert whole.dtype == torch.float32

    def test_protocol_family_image_and_draw_matter(self):
        base = random_starts.uniform("d", "pgd", [3], (1, 4, 4))
        others = [
            random_starts.uniform("e", "pgd", [3], (1, 4, 4)),
            random_starts.uniform("d", "cw", [3], (1, 4, 4)),
            random_starts.uniform("d", "pgd", [4], (1, 4, 4)),
            random_starts.uniform("d", "pgd", [3], (1, 4, 4), draw=1),
        ]
        assert all(not torch.equal(base, other) for other in others)

    def test_draws_are_uniform(self):
        unit = random_starts.uniform("d", "pgd", range(200), (3, 16, 16)).numpy()
        assert unit.min() >= -1
        assert unit.max() < 1
        n = unit.size
        assert abs(unit.mean()) < 5 / np.sqrt(3 * n)
        assert abs((unit**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)


class TestPGD:
    def test_pgd20_is_an_iterate_of_pgd100(self, net, images):
        x, y = images

        def steps(x_adv, count):
            return Ball("linf", 0.1).ascend(x, x_adv, lambda z: ce_sum(net(z), y), step=0.02, steps=count)

        first, longer = steps(x, 3), steps(x, 7)
        assert torch.equal(steps(first, 4), longer)
        assert not torch.equal(first, longer)

    @pytest.mark.parametrize("loss", ["ce", "margin"])
    def test_against_a_numpy_loop_on_a_linear_network(self, loss):
        rng = np.random.default_rng(0)
        weight, x = rng.normal(size=(4, 5)), rng.uniform(size=(6, 5))
        y = rng.integers(4, size=6)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(5, 4, bias=False)).double()
        with torch.no_grad():
            linear[1].weight.copy_(torch.from_numpy(weight))
        eps, step, steps = 0.2, 0.07, 9
        z = np.clip(x + eps * 0.5, 0, 1)
        for _ in range(steps):
            logits = z @ weight.T
            if loss == "ce":
                p = np.exp(logits - logits.max(1, keepdims=True))
                direction = p / p.sum(1, keepdims=True) - np.eye(4)[y]
            else:
                other = np.where(np.eye(4)[y] == 1, -np.inf, logits).argmax(1)
                direction = np.eye(4)[other] - np.eye(4)[y]
            z = np.clip(np.clip(z + step * np.sign(direction @ weight), x - eps, x + eps), 0, 1)
        tx, ty = torch.from_numpy(x).reshape(6, 1, 1, 5), torch.from_numpy(y)
        start = pgd.start(tx, torch.full_like(tx, 0.5), eps)
        each = ce_sum if loss == "ce" else margin_sum
        got = Ball("linf", eps).ascend(tx, start, lambda z: each(linear(z), ty), step=step, steps=steps)
        np.testing.assert_allclose(got.reshape(6, 5).numpy(), z, atol=1e-12)

    def test_start_is_clipped(self):
        x = torch.tensor([[[[0.0, 0.5, 1.0]]]])
        assert pgd.start(x, torch.tensor([[[[-1.0, 1.0, 1.0]]]]), 0.25).flatten().tolist() == [0.0, 0.75, 1.0]


class TestAutoAttack:
    def test_seed_is_the_first_31_bits_of_the_hash(self):
        bits = f"{int(hashlib.sha256(b'abc|2|fab-t|5').hexdigest(), 16):0256b}"
        assert autoattack.seed_of("abc", 2, "fab-t", 5) == int(bits[:31], 2)

    def test_targets(self):
        assert [autoattack.targets(classes) for classes in (4, 9, 10, 100)] == [3, 8, 9, 9]
        assert not autoattack.settings(9)["standard"]
        assert autoattack.settings(10)["standard"]

    def test_engine_is_the_standard_one(self, net, images, monkeypatch):
        seen = []
        real = AutoAttack.run_standard_evaluation

        def spy(engine, *args, **kwargs):
            seen.append((engine, kwargs))
            return real(engine, *args, **kwargs)

        monkeypatch.setattr(AutoAttack, "run_standard_evaluation", spy)
        x, _ = images
        y = net(x).argmax(1)
        autoattack.propose(net, x, y, eps=0.05, attack="apgd-ce", seed=11, num_classes=10)
        ((engine, kwargs),) = seen
        assert (engine.version, engine.attacks_to_run, engine.seed) == ("standard", ["apgd-ce"], 11)
        assert (engine.apgd.n_restarts, engine.apgd.n_iter, engine.apgd.loss) == (1, 100, "ce")
        assert (engine.apgd_targeted.n_restarts, engine.apgd_targeted.n_target_classes) == (1, 9)
        assert (engine.fab.n_restarts, engine.fab.n_target_classes) == (1, 9)
        assert (engine.square.n_queries, engine.square.n_restarts) == (5000, 1)
        assert kwargs["batch_size"] == len(x)

    def test_unknown_attack(self, net, images):
        with pytest.raises(ValueError, match="apgd-dlr"):
            autoattack.propose(net, *images, eps=0.1, attack="apgd-dlr", seed=0, num_classes=10)


class TestContained:
    def test_leaves_no_trace(self, net, images, capfd):
        x, _ = images
        y = net(x).argmax(1)

        def tracer(frame, event, arg):
            return None

        before, state = sys.gettrace(), torch.get_rng_state()
        sys.settrace(tracer)
        try:
            autoattack.propose(net, x, y, eps=0.05, attack="apgd-ce", seed=1, num_classes=10)
            after = sys.gettrace()
        finally:
            sys.settrace(before)
        assert after is tracer
        assert torch.equal(torch.get_rng_state(), state)
        from pyautoattack import checks

        assert set(checks.funcs.values()) == {0}
        out, err = capfd.readouterr()
        assert (out, err) == ("", "")

    def test_warnings_are_returned_not_printed(self, net, images, capfd):
        x, _ = images
        soft = nn.Sequential(net, nn.Softmax(1))
        y = soft(x).argmax(1)
        _, warnings = autoattack.propose(soft, x, y, eps=0.05, attack="apgd-ce", seed=1, num_classes=10)
        assert any("probability distribution" in warning for warning in warnings)
        assert capfd.readouterr().err == ""

    def test_restores_after_an_error(self):
        logger = logging.getLogger("auto-attack")
        before = (logger.handlers, logger.propagate, logger.level)
        with pytest.raises(KeyError), contained(torch.device("cpu")):
            raise KeyError
        assert (logger.handlers, logger.propagate, logger.level) == before


class Cut(nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, :5]


class TestView:
    def test_logits_are_the_networks(self, net, images):
        x, _ = images
        assert torch.equal(View(net)(x), net(x))

    def test_a_cut_graph_gives_zero_gradient(self, images):
        x = images[0].clone().requires_grad_()
        logits = View(Cut())(x)
        assert torch.equal(logits, x.flatten(1)[:, :5])
        (gradient,) = torch.autograd.grad(logits.sum(), x)
        assert torch.count_nonzero(gradient) == 0

    def test_nan_gradient_becomes_zero_unless_raw(self):
        class Nan(nn.Module):
            def forward(self, x):
                return x.flatten(1) + (x.flatten(1) - x.flatten(1).detach()).sqrt()

        x = torch.rand(2, 1, 2, 2, requires_grad=True)
        (gradient,) = torch.autograd.grad((View(Nan())(x) * 0).sum(), x)
        assert gradient.isfinite().all()
        (raw,) = torch.autograd.grad((View(Nan(), raw=True)(x) * 0).sum(), x)
        assert raw.isnan().any()

    def test_empty_batch(self, net, images):
        x, _ = images
        view = View(net)
        view(x)
        assert view(x[:0]).shape == (0, 10)

    def test_writing_into_logits_does_not_reach_the_network(self, images):
        class Constant(nn.Module):
            def __init__(self):
                super().__init__()
                self.bias = nn.Parameter(torch.arange(4.0))

            def forward(self, x):
                return self.bias.expand(len(x), 4)

        net = Constant()
        with torch.no_grad():
            View(net)(images[0])[:, 0] = 9.0
        assert net.bias.tolist() == [0, 1, 2, 3]

    def test_output_that_is_no_tensor(self, images):
        class Pair(nn.Module):
            def forward(self, x):
                return x, x

        with pytest.raises(ForwardError, match="tuple"):
            View(Pair())(images[0])


def test_frozen_restores_modes_and_gradients(net):
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    with frozen(net):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
    assert (net.training, net[0].training, net[1].training) == (True, True, False)
    assert [parameter.requires_grad for parameter in net.parameters()] == [False, True, True, True]


@pytest.mark.parametrize("wanted", ["highest", "high", "medium"])
def test_strict_fp32_restores_every_switch(wanted):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        state = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
        with strict_fp32(torch.device("cpu")), torch.autocast("cpu", enabled=False):
            assert not torch.is_autocast_enabled("cpu")
            assert torch.backends.cudnn.deterministic
            if hasattr(torch.backends.cudnn, "conv"):
                assert torch.backends.cudnn.conv.fp32_precision == "ieee"
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            else:
                assert not torch.backends.cudnn.allow_tf32
                assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == wanted
        assert state == (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
        )
    finally:
        torch.set_float32_matmul_precision(before)


def test_strict_fp32_turns_autocast_off(net, images):
    with torch.autocast("cpu", dtype=torch.bfloat16), strict_fp32(torch.device("cpu")):
        assert net(images[0]).dtype == torch.float32
