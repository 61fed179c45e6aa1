"""The one network of all agents: many steps at once and each alone, and what it does with z."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarl.nn.retrieval import DirectRetrieval, Mode, Retriever, SlotRetrieval, TaskOracle
from rarl.nn.value_network import ValueNetwork

G, B, T, D_S, ACTIONS, TASKS, N_TRAJ = 2, 3, 4, 6, 5, 4, 5
READING = {"d_e": 5, "d_h": 8, "d_v": 6, "k_traj": 3, "k_states": 4, "summariser": "gru"}
SLOTS = {"n_f": 3, "d_m": 4, "slot_heads": 2}


class Encoder(nn.Module):
    """Of observations (..., 7) and a task's id."""

    def __init__(self):
        super().__init__()
        self.inputs, self.task = nn.Linear(7, D_S), nn.Embedding(TASKS, D_S)

    def forward(self, x, context):
        return torch.tanh(self.inputs(x)) + self.task(context)


def network_of(kind, seed=0, standardise=False, **options):
    torch.manual_seed(seed)
    slots = {"d_s": D_S, "n_actions": 0, **READING, **SLOTS, "standardise": standardise}
    process = {
        "dqn": lambda: None,
        "oracle": lambda: TaskOracle(TASKS, SLOTS["d_m"]),
        "ra-dqn": lambda: SlotRetrieval(**slots),
        "query": lambda: SlotRetrieval(**slots, n_tasks=TASKS),
        "nothing": lambda: SlotRetrieval(**slots, retrieves=False),
        "direct": lambda: DirectRetrieval(D_S, 0, **READING, standardise=standardise),
    }[kind]()
    fusion = "add" if kind == "direct" else "film"
    retriever = None if process is None else Retriever(D_S, process, d_e=READING["d_e"], fusion=fusion)
    network = ValueNetwork(Encoder(), D_S, ACTIONS, retriever, d_e=READING["d_e"], **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.7 if parameter.ndim > 1 else 0.3))
    return network


def inputs_of(seed=0, steps=T):
    """x (G, B, T, 7), context (G, B, 1), which trajectories must not be read (G, B, n_traj)."""
    torch.manual_seed(100 + seed)
    x = torch.randn(G, B, steps, 7, dtype=torch.float64)
    return x, torch.randint(TASKS, (G, B, 1)), torch.rand(G, B, N_TRAJ) < 0.3


def summaries_of(network, seed=0):
    process = None if network.retriever is None else network.process
    if not hasattr(process, "summarise") or not getattr(process, "retrieves", True):
        return None
    torch.manual_seed(200 + seed)
    s = torch.randn(G, N_TRAJ, 4, D_S, dtype=torch.float64)
    mask = torch.arange(4) < torch.randint(1, 5, (G, N_TRAJ, 1))
    return process.summarise(s, torch.zeros(s.shape[:3], dtype=torch.int64), torch.zeros(s.shape[:3]), mask)


def parts_of(step):
    """All that a step of retrieval gave, by name."""
    gaussians = {
        f"{name}.{part}": getattr(g, part) for name in "pr" if (g := getattr(step, name)) for part in g._fields
    }
    return {name: part for name in ("z", "alpha", "q") if (part := getattr(step, name)) is not None} | gaussians


KINDS = ["dqn", "oracle", "ra-dqn", "query", "nothing", "direct"]
MODES = [Mode.ACT, Mode.TARGET]


# --- through time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_steps_of_an_agent_without_memory_are_states_by_themselves(kind, mode):
    network, (x, context, exclude) = network_of(kind), inputs_of()
    retrieved = summaries_of(network)
    readable = None if retrieved is None else retrieved.readable(exclude)
    whole = network.unroll(x, context, None, retrieved, mode=mode, readable=readable)
    assert whole.q.shape == (G, B, T, ACTIONS)
    assert whole.state == (None, None)
    for t in range(T):
        q, step = network(x[:, :, t], context[:, :, 0], retrieved, mode=mode, readable=readable)
        torch.testing.assert_close(q, whole.q[:, :, t])
        if kind == "dqn":
            assert whole.step is step is None
            continue
        alone, together = parts_of(step), parts_of(whole.step)
        assert alone.keys() == together.keys()
        for name, part in together.items():
            at = part[:, :, t] if part.shape[2] == T else part[:, :, 0]  # or the same for all
            torch.testing.assert_close(at, alone[name])
    for t in range(T):  # nor does it matter what came before
        before = network.unroll(x[:, :, : t + 1], context, None, retrieved, mode=mode, readable=readable)
        torch.testing.assert_close(before.q[:, :, t], whole.q[:, :, t])


@pytest.mark.parametrize("kind", ["ra-dqn", "direct"])
def test_what_normalises_is_of_all_real_steps_together(kind):
    """Of a learner step: T steps of B sequences are as T * B states."""
    x, context, exclude = inputs_of()
    real = torch.rand(G, B, T) < 0.7
    found = []
    for flat in (False, True):
        network = network_of(kind, standardise=True)
        retrieved = summaries_of(network)
        if flat:
            torch.manual_seed(5)
            q, step = network(
                x.flatten(1, 2),
                context.expand(G, B, T).flatten(1, 2),
                retrieved,
                mode=Mode.LEARN,
                counts=real.flatten(1, 2),
                readable=retrieved.readable(exclude[:, :, None].expand(G, B, T, N_TRAJ).flatten(1, 2)),
            )
            q, z = q.unflatten(1, (B, T)), step.z.unflatten(1, (B, T))
        else:
            torch.manual_seed(5)
            readable = retrieved.readable(exclude)
            out = network.unroll(x, context, None, retrieved, mode=Mode.LEARN, counts=real, readable=readable)
            q, z = out.q, out.step.z
        found.append((q, z, network.process.standardise.mean, network.process.standardise.variance))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    other = network_of(kind, standardise=True)
    torch.manual_seed(5)
    retrieved = summaries_of(other)
    other.unroll(x, context, None, retrieved, mode=Mode.LEARN, readable=retrieved.readable(exclude))
    assert not torch.allclose(other.process.standardise.mean, found[0][2])


@pytest.mark.parametrize(
    ("kind", "carry"),
    # Slots that are carried would have to be told the task at every step: there is no such agent.
    [(kind, carry) for kind in KINDS for carry in (True, False) if (kind, carry) != ("query", True)],
)
@torch.no_grad()
def test_a_recurrent_agent_step_by_step(kind, carry):
    """At once, and each step from the state after the one before, of which the trail tells."""
    network, (x, context, exclude) = network_of(kind, recurrent=True, carry=carry), inputs_of()
    retrieved = summaries_of(network)
    readable = None if retrieved is None else retrieved.readable(exclude)
    whole = network.unroll(x, context, None, retrieved, readable=readable, keep_attention=True, keep_states=True)
    carries = carry and kind in ("ra-dqn", "nothing")
    assert network.carries_slots == carries
    assert (whole.state.slots is not None) == carries
    state = network.initial_state(G, B)
    for t in range(T):
        one = network.unroll(x[:, :, [t]], context, state, retrieved, readable=readable, keep_attention=True)
        torch.testing.assert_close(one.q[:, :, 0], whole.q[:, :, t])
        torch.testing.assert_close(one.state.core, whole.trail.core[:, :, t])
        if carries:
            torch.testing.assert_close(one.state.slots, whole.trail.slots[:, :, t])
        if kind != "dqn":
            for name, part in parts_of(whole.step).items():
                at = part[:, :, t] if part.shape[2] == T else part[:, :, 0]
                torch.testing.assert_close(at, parts_of(one.step)[name].squeeze(2).expand_as(at))
        state = one.state
    torch.testing.assert_close(state.core, whole.state.core)
    if carries:
        assert whole.step.m_t is None
        quiet = network.unroll(x, context, None, retrieved, readable=readable)
        assert (quiet.step.alpha, quiet.step.q) == (None, None)
        torch.testing.assert_close(quiet.q, whole.q)
    # The past matters.
    later = network.unroll(x[:, :, 1:], context, None, retrieved, readable=readable)
    assert not torch.allclose(later.q[:, :, 0], whole.q[:, :, 1])


@torch.no_grad()
def test_a_recurrent_agent_asks_with_what_its_core_says():
    """By hand, where slots start afresh at each step."""
    network, (x, context, _) = network_of("ra-dqn", recurrent=True, carry=False), inputs_of()
    retrieved, process = summaries_of(network), network.process
    out = network.unroll(x, context, None, retrieved)
    cell = nn.GRUCell(D_S, D_S).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in network.core.state_dict().items()})
    core = torch.zeros(G * B, D_S, dtype=torch.float64)
    for t in range(T):
        core = cell(torch.relu(network.encoder(x[:, :, t], context[:, :, 0])).flatten(0, 1), core)
        s = core.view(G, B, D_S)
        step = process(s, process.slot_mean[None, None], retrieved, mode=Mode.ACT, carry=False)
        q = network.head(network.retriever.fusion(s, network.retriever.readout(s, step.z)), step.z)
        torch.testing.assert_close(out.q[:, :, t], q)


# --- what a network is made of ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_oracle_is_told_and_nothing_else():
    """z is the task's row of a table, whatever the state; it reaches the values as what is read does."""
    network, (x, context, _) = network_of("oracle"), inputs_of()
    network.encoder.task.weight.zero_()  # the observation does not say it
    out = network.unroll(x, context, None, None)
    table = network.process.embedding.weight
    assert out.step.z.shape == (G, B, T, 1, SLOTS["d_m"])
    assert (out.step.alpha, out.step.p, out.step.r, out.step.m_t) == (None, None, None, None)
    assert not out.step.kl.any()
    for g in range(G):
        for b in range(B):
            z = table[context[g, b, 0]]
            assert (out.step.z[g, b] == z).all()
            s = network.encoder(x[g, b], context[g, b])
            q = network.head(network.retriever.fusion(s, z.expand(T, -1)), z.expand(T, 1, -1))
            torch.testing.assert_close(out.q[g, b], q)
    other = network.unroll(x, (context + 1) % TASKS, None, None)
    assert not torch.isclose(other.q, out.q).all(-1).any()
    network.process.embedding.weight[:] = table[0].clone()
    assert torch.equal(network.unroll(x, context, None, None).q, network.unroll(x, 0 * context, None, None).q)


def test_only_the_told_tasks_row_learns():
    network, x = network_of("oracle"), inputs_of()[0]
    network(x[:, :, 0], torch.full((G, B), 2))[0].square().sum().backward()
    learned = network.process.embedding.weight.grad.abs().sum(1) > 0
    assert learned.tolist() == [False, False, True, False]


@pytest.mark.parametrize("kind", ["ra-dqn", "query"])
@torch.no_grad()
def test_queries_are_what_is_asked_at_a_start(kind):
    network, (x, context, _) = network_of(kind), inputs_of()
    x, context = x[:, :, 0], context[:, :, 0]
    _, step = network(x, context, summaries_of(network))
    queries = network.queries(x, context)
    torch.testing.assert_close(queries, step.q * READING["d_e"] ** -0.5)
    other = network.queries(x, (context + 1) % TASKS)
    network.encoder.task.weight.zero_()
    told = network.queries(x, context), network.queries(x, (context + 1) % TASKS)
    assert not torch.allclose(queries, other)
    assert torch.equal(*told) == (kind != "query")


@torch.no_grad()
def test_a_retriever_with_an_encoder_of_its_own_sees_by_it_alone():
    torch.manual_seed(9)
    own = Encoder().double()
    network, (x, context, _) = network_of("ra-dqn", retriever_encoder=own), inputs_of()
    assert network.encoder_of_retrieved is own
    retrieved = summaries_of(network)
    before = network.unroll(x, context, None, retrieved)
    network.encoder.inputs.weight.mul_(-1)
    after = network.unroll(x, context, None, retrieved)
    assert torch.equal(before.step.z, after.step.z)
    assert not torch.allclose(before.q, after.q)
    own.inputs.weight.mul_(-1)
    assert not torch.allclose(network.unroll(x, context, None, retrieved).step.z, after.step.z)
    network.freeze_retriever()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in network.named_parameters() if n.startswith(("retriever.process.", "retriever_enc"))}
    assert not own.training
    network.freeze_retriever(False)
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(ValueError, match="has no recurrent form"):
        network_of("ra-dqn", retriever_encoder=own, recurrent=True)


@pytest.mark.parametrize("kind", ["direct", "oracle", "ra-dqn"])
def test_the_head_attends_over_what_slots_pass_on(kind):
    """What the state itself has read is added to it; there is nothing to choose from."""
    network = network_of(kind)
    assert (network.head.readout is None) == (network.retriever.readout is None) == (kind == "direct")
    assert network.retriever.d_z == (0 if kind == "direct" else SLOTS["d_m"])
