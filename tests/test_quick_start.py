"""Starting torch without its compiler: what learners call works as before, and the compiler comes when it is used."""

from __future__ import annotations

import subprocess
import sys

EAGER = """
import sys
from rarl.quick_start import import_torch
import_torch()
import torch

torch.use_deterministic_algorithms(True, warn_only=True)
assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
torch.use_deterministic_algorithms(False)
assert not torch.are_deterministic_algorithms_enabled()
layer = torch.nn.Linear(2, 1)
before = layer.weight.clone()
optimiser = torch.optim.Adam(layer.parameters())
optimiser.zero_grad()
layer(torch.ones(3, 2)).sum().backward()
optimiser.step()
assert not torch.equal(before, layer.weight) and torch.is_grad_enabled()
optimiser.load_state_dict(optimiser.state_dict())
import inspect
inspect.getmodule(layer.forward)  # looks at every module
assert not [name for name in sys.modules if name.startswith(("torch._dynamo.", "torch._inductor"))]
"""

COMPILER = """
torch.use_deterministic_algorithms(True)
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2.0, 2.0]
assert "torch._dynamo.utils" in sys.modules and sys.modules["torch._dynamo"] is torch._dynamo
import torch._dynamo.config
import torch._inductor.config
torch.use_deterministic_algorithms(True)
assert torch._inductor.config.deterministic
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_learners_load_no_compiler():
    run(EAGER)


def test_the_compiler_comes_when_it_is_used():
    run(EAGER + COMPILER)


def test_where_the_compiler_is_loaded_nothing_changes():
    run(
        """
import torch, torch._dynamo
own, everywhere = torch._dynamo, torch.use_deterministic_algorithms
from rarl.quick_start import import_torch
import_torch()
assert torch._dynamo is own and torch.use_deterministic_algorithms is everywhere
"""
    )
