"""Files from a stranger are read, never run: no pickle anywhere, and malicious files leave nothing behind."""

import ast
import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdiff
from jaxdiff import export
from jaxdiff.composition import BandTable
from jaxdiff.data.records import write_records
from jaxdiff.evaluation.weight_file import read_torch, read_weights
from jaxdiff.experiment.arrays import saved
from jaxdiff.networks import build_network
from tests.faults import harness
from tests.faults.fuzzing import Evil

FOLDERS = ("jaxdiff", "configs", "scripts", "benchmarks")
SOURCES = sorted(path for name in FOLDERS for path in (harness.ROOT / name).rglob("*.py"))
SOURCES.append(harness.ROOT / "launch.py")
RUNS_CODE = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "pandas",
    "yaml",
}
# Modules that start programs or load code by a name.
STARTS_CODE = {
    "subprocess",
    "importlib",
    "runpy",
    "ctypes",
    "cffi",
    "imp",
    "pty",
    "codeop",
    "code",
    "multiprocessing",
}
CALLS = {"eval", "exec", "compile", "__import__"}
# Calls of a module's functions that do, by the beginning of their names.
OF_MODULES = {
    "os": ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile"),
    "importlib": ("import_module", "reload", "util.spec_from", "util.module_from"),
    "builtins": ("eval", "exec", "compile", "__import__"),
    "torch": ("hub.load", "jit.load", "package"),
    "sys": ("setprofile",),
}
# Who may, and why: nothing of what is run or imported comes out of a file that is read.
ALLOWED = {
    "jaxdiff/data/extras.py": {
        "import importlib": "one of the optional packages that the code itself names",
        "importlib.import_module()": "the same",
    },
    "jaxdiff/experiment/cells.py": {
        "import subprocess": "a cell: this interpreter, a module of this project"
    },
    "jaxdiff/experiment/overrides.py": {
        "import importlib": "a config is Python, named on the command line and loaded before by ml_collections",
        "importlib.util.spec_from_file_location()": "the same",
        "importlib.util.module_from_spec()": "the same",
    },
    "jaxdiff/experiment/results.py": {"import importlib": "importlib.metadata: versions of packages"},
    "jaxdiff/gpu_flags.py": {
        "import importlib": "looks whether a plugin of JAX is installed, and imports nothing"
    },
    "jaxdiff/training/distributed_check.py": {
        "import subprocess": "this interpreter, a module of this project"
    },
    "benchmarks/peers.py": {"import subprocess": "this interpreter, a script beside it"},
}
HARMLESS = {
    "allow_pickle": False,
    "weights_only": True,
    "shell": False,
}  # the only values that these keywords may have


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def dangers(source):
    """What in a Python source could run what it reads: imports, calls, keywords."""
    tree, found = ast.parse(source), []
    found += [f"import {name}" for name in imports(tree) if name in RUNS_CODE | STARTS_CODE]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.append(f"{node.func.id}()")
        module, _, function = ast.unparse(node.func).partition(".")
        if function.startswith(OF_MODULES.get(module, ())) and module in OF_MODULES:
            found.append(f"{module}.{function}()")
        if isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            where = ast.unparse(node.func.value)
            keywords = {keyword.arg for keyword in node.keywords}
            if where in ("np", "numpy") and "allow_pickle" not in keywords:
                found.append("np.load without allow_pickle=False")
            if where == "torch" and "weights_only" not in keywords:
                found.append("torch.load without weights_only=True")
        for keyword in node.keywords:
            value = getattr(keyword.value, "value", None)
            if keyword.arg in HARMLESS and value is not HARMLESS[keyword.arg]:
                found.append(f"{keyword.arg}={ast.unparse(keyword.value)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(harness.ROOT).as_posix())
def test_nothing_in_the_sources_unpickles_or_evaluates(path):
    allowed = ALLOWED.get(path.relative_to(harness.ROOT).as_posix(), {})
    assert set(dangers(path.read_text())) == set(allowed)  # a permission that nobody needs is taken back


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "import subprocess",
        "from importlib import import_module",
        "import os\nos.system(text)",
        "os.execv(path, arguments)",
        "os.popen(text)",
        "importlib.import_module(name)",
        "builtins.eval(text)",
        "torch.hub.load(name)",
        "import runpy",
    ],
)
def test_what_could_run_code_is_seen(source):
    assert dangers(source)


# Loading goes on in a process that records every attempt to unpickle a name, to run a program or to compile a text.
GUARDED = """
import sys
import jax, numpy, orbax.checkpoint, safetensors, jaxdiff, jaxdiff.training.checkpoint, jaxdiff.data.sources
from pathlib import Path
{prepare}
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in
    ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen") else None)
try:
    {load}
    print("loaded")
except (ValueError, OSError, RuntimeError) as error:
    print("refused:", type(error).__name__, str(error)[:300])
print("seen:", seen)
"""


def guarded(load, prepare=""):
    code = GUARDED.format(load=load, prepare=prepare)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=harness.ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seen: []" in done.stdout, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "model"
    network = build_network("mlp", 1, width=4, blocks=1)
    params = network.init(jax.random.key(0), np.zeros((1, 4, 4, 1), np.float32), np.zeros(1, np.float32))[
        "params"
    ]
    export.save(directory, network, params, (4, 4, 1), 0.5, (0.01, 80.0), export.SamplerDefaults())
    return directory


@pytest.fixture
def model(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "model")


def test_the_export_is_sound_as_it_was(model):
    assert jaxdiff.load(model).image_shape == (4, 4, 1)


@pytest.mark.slow
@pytest.mark.parametrize("file", [export.TENSORS, export.CONFIG])
def test_an_export_with_a_pickle_in_place_of_a_file_runs_nothing(model, tmp_path, file):
    mark = tmp_path / "mark"
    (model / file).write_bytes(pickle.dumps(Evil(mark)))
    assert "refused: ValueError" in guarded(f"jaxdiff.load({str(model)!r})") and not mark.exists()


@pytest.mark.slow
def test_a_checkpoint_with_pickles_in_place_of_its_files_runs_nothing(whole, tmp_path, record_property):
    mark, tried = tmp_path / "mark", 0
    directory = shutil.copytree(harness.checkpoints(whole), tmp_path / "checkpoints")
    (directory / "manifest.json").unlink(missing_ok=True)
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            path.write_bytes(pickle.dumps(Evil(mark)))
            tried += 1
    for listed in directory.rglob("manifest.json"):
        listed.unlink()  # so that Orbax itself is asked
    shape = "jax.ShapeDtypeStruct((3,), numpy.float32)"
    printed = guarded(
        f"jaxdiff.training.checkpoint.StageCheckpoints(Path({str(directory)!r})).restore({{'w': {shape}}})"
    )
    assert "refused: DamagedCheckpoints" in printed and not mark.exists()
    record_property("files of a checkpoint replaced by pickles", tried)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["npz", "idx", "records", "folder", "zip"])
def test_data_with_pickles_in_place_of_files_run_nothing(tmp_path, spec):
    mark, path = tmp_path / "mark", tmp_path / "data"
    if spec == "records":
        write_records(path, [{"x": np.zeros((4, 4, 1), np.uint8)}], {"kind": "images"})
        next(path.glob("*.array_record")).write_bytes(pickle.dumps(Evil(mark)))
    elif spec == "folder":
        path.mkdir()
        (path / "a.png").write_bytes(pickle.dumps(Evil(mark)))
    else:
        path.write_bytes(pickle.dumps(Evil(mark)))
    load = f"jaxdiff.data.sources.open_source({f'{spec}:{path}'!r})"
    assert "refused: ValueError" in guarded(load) and not mark.exists()


@pytest.mark.parametrize("inside", [False, True], ids=["a pickle", "an array of objects"])
def test_malicious_weights_run_nothing(tmp_path, inside):
    mark, path = tmp_path / "mark", tmp_path / "weights.npz"
    path.write_bytes(pickle.dumps(Evil(mark)))
    if inside:
        np.savez(path, w=np.array([Evil(mark)], object))
    with pytest.raises(ValueError, match=f"{path} is no .npz of test weights"):
        read_weights(path, {"w": (1,)}, "test", "make {path}")
    assert not mark.exists()


def test_a_malicious_checkpoint_of_pytorch_runs_nothing(tmp_path):
    pytest.importorskip("torch")
    mark, path = tmp_path / "mark", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ValueError, match=f"{path} cannot be read as a PyTorch checkpoint of weights"):
        read_torch(path)
    assert not mark.exists()


def _pickle(mark, path):
    path.write_bytes(pickle.dumps(Evil(mark)))


def _objects(mark, path):
    np.savez(path, sigma=np.array([Evil(mark)], object), values=np.array([Evil(mark)], object))


def _named_as_an_array(mark, path):
    np.save(path.with_suffix(".npy"), np.array([Evil(mark)], object))
    path.with_suffix(".npy").rename(path)


@pytest.mark.parametrize("write", [_pickle, _objects, _named_as_an_array])
def test_a_malicious_file_among_the_fits_of_a_run_is_set_aside(tmp_path, write):
    mark, path = tmp_path / "mark", tmp_path / "fits" / "fusion.npz"
    path.parent.mkdir()
    write(mark, path)
    table = saved(path, BandTable, lambda: BandTable(np.ones(2, np.float32), np.ones((2, 1), np.float32)))
    assert not mark.exists() and table.sigmas.shape == (2,)
    assert path.with_name("fusion.npz.damaged").exists()


CONFIGS = {
    "no json": "\x00",
    "nested without end": "[" * 100_000,
    "a list": "[]",
    "a module for a network": {"network": {"name": "os.system", "out_channels": 1}},
    "a template for a network": {"network": {"name": "{0.__class__}", "out_channels": 1}},
    "unknown arguments": {"network": {"name": "mlp", "out_channels": 1, "__class__": "x"}},
    "no sizes": {"image_shape": []},
    "text for sizes": {"image_shape": "444"},
    "infinite sizes": {"image_shape": [1e400, 4, 1]},
    "no network": {"network": None},
    "a number for a network": {"network": 3},
    "no preconditioning": {"preconditioning": 3},
    "a list for the sampler": {"sampler": [1]},
    "one end of a range": {"noise_range": [1.0]},
    "no range": {"noise_range": 3},
    "a path in a name": {"network": {"name": "../../mlp", "out_channels": 1}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_export_with_a_malicious_config_is_a_named_error(model, name):
    changes, path = CONFIGS[name], model / export.CONFIG
    text = changes if isinstance(changes, str) else json.dumps(json.loads(path.read_text()) | changes)
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        jaxdiff.load(model)


@pytest.mark.parametrize("header", [2**63, 2**40, 0, 3])
def test_tensors_that_claim_too_much_are_a_named_error(model, header):
    path = Path(model / export.TENSORS)
    path.write_bytes(
        struct.pack("<Q", header) + b'{"a":{"dtype":"F32","shape":[999999999],"data_offsets":[0,4]}}'
    )
    with pytest.raises(ValueError, match=str(path)):
        jaxdiff.load(model)
