"""Stands in for sbatch, squeue, scontrol and scancel: a state in a file, which tests change."""

import json
import os
import pathlib
import re
import sys

home = pathlib.Path(os.environ["STAND_IN"])
state = json.loads((home / "state.json").read_text())
name, words = sys.argv[1], sys.argv[2:]
with (home / "calls").open("a") as handle:
    handle.write(json.dumps([name, *words]) + "\n")


def stop(message):
    sys.exit(f"{name}: error: {message}")


def save():
    (home / "state.json").write_text(json.dumps(state))


if state["away"]:
    stop("Unable to contact slurm controller (connect failure)")
if name == "sbatch":
    text = pathlib.Path(words[-1]).read_text()
    options = dict(re.findall(r"#SBATCH --([\w-]+)(?:=(.*))?", text))
    options = {key: value.strip("'") for key, value in options.items()}
    if "test-only" in options:
        if state["refuse"]:
            print("allocation failure: " + state["refuse"], file=sys.stderr)
            sys.exit(1)
        sys.exit(0)
    count = 1
    if "array" in options:
        first, last = options["array"].partition("%")[0].split("-")
        count = int(last) - int(first) + 1
    if state["room"] is not None and count > state["room"]:
        stop(
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
            "time limits)"
        )
    if state["room"] is not None:
        state["room"] -= count
    state["next"] += 1
    number = str(state["next"])
    state["arrays"][number] = {"options": options, "script": text, "count": count}
    for index in range(count):
        key = f"{number}_{index}" if "array" in options else number
        state["tasks"][key] = {"state": state["born"], "reason": "Priority", "user": state["user"]}
    save()
    print(f"Submitted batch job {number}")
elif name == "squeue":
    for key, task in state["tasks"].items():
        array, _, index = key.partition("_")
        if task["state"] not in {"PENDING", "RUNNING"}:
            continue
        if "-n" in words:
            if state["arrays"][array]["options"]["job-name"] == words[words.index("-n") + 1]:
                print(array)
        else:
            print(f"{array}|{index or 'N/A'}|{task['state']}|{task['user']}|n1|{task['reason']}")
elif name == "scontrol" and words[:2] == ["show", "config"]:
    print(f"MaxArraySize            = {state['array']}\nClusterName             = stand-in")
elif name == "scontrol" and words[:2] == ["show", "partition"]:
    print("PartitionName=debug Default=YES DefaultTime=NONE MaxTime=UNLIMITED Nodes=n1")
    print("PartitionName=tiny Default=NO DefaultTime=00:01:00 MaxTime=1-00:00:00 Nodes=n1")
elif name == "scontrol" and words[:2] == ["show", "node"]:
    print(f"NodeName=n1 NodeHostName={state['host']} NodeAddr={state['host']}")
elif name == "scontrol" and words[:2] == ["show", "job"]:
    if words[-1] not in state["tasks"]:
        stop("Invalid job id specified")
    task = state["tasks"][words[-1]]
    print(f"JobId=1 JobState={task['state']} Reason={task['reason']} ExitCode={task.get('code', '0:0')} BatchHost=n1")
elif name == "scontrol" and words[0] == "requeue":
    state["requeued"].append(words[1])
    save()
elif name == "scancel":
    for word in words:
        for key, task in state["tasks"].items():
            if key == word or key.partition("_")[0] == word:
                task["state"] = "CANCELLED"
    save()
else:
    stop("no accounting here")
