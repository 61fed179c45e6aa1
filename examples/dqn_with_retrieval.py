"""DQN in a single file, with and without retrieval: python examples/dqn_with_retrieval.py

A 5 x 5 grid with a goal that the agent cannot see. It is one of eight, another in each episode, but of each goal there
are a few stored episodes of a random walker, with rewards. An agent that retrieves reads where they were rewarded; one
that does not has to search. Lines that end in "# retrieval" are all that it takes.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from rarl.nn import Retriever  # retrieval

SIDE, STEPS, GOALS = 5, 16, 8
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
STORED, RETRIEVED = 30, 8  # episodes of each goal, and how many of them are read at a time
ENVS, UPDATES, BATCH, DISCOUNT, RATE = 16, 1500, 32, 0.9, 1e-3


class Grid:
    """n grids at once. An episode ends at its goal, with reward 1, or after STEPS steps."""

    def __init__(self, goals, cells, rng):
        self.goals, self.cells, self.rng = goals, cells, rng  # goals (n,): which; cells (GOALS, 2): where they are
        self.at = np.zeros((len(goals), 2), dtype=int)
        self.t = np.zeros(len(goals), dtype=int)
        self.begin(np.arange(len(goals)))

    def begin(self, which):
        self.at[which], self.t[which] = SIDE // 2, 0

    def see(self):
        return np.eye(SIDE * SIDE, dtype=np.float32)[self.at[:, 0] * SIDE + self.at[:, 1]]

    def step(self, actions):
        self.at = np.clip(self.at + MOVES[actions], 0, SIDE - 1)
        self.t += 1
        reward = (self.at == self.cells[self.goals]).all(1).astype(np.float32)
        return self.see(), reward, (reward > 0) | (self.t >= STEPS)


class QNetwork(nn.Module):
    def __init__(self, retrieves):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, 64), nn.LayerNorm(64))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
        options = {"n_actions": 4, "n_f": 1, "d_m": 64, "k_states": None, "fusion": "add"}  # retrieval
        self.retriever = Retriever(d_s=64, summariser="decay", **options) if retrieves else None  # retrieval

    def forward(self, x, retrieved=None):
        """x (goals, n, cells) -> Q (goals, n, 4); retrieved: episodes of each goal, None: there are none."""
        s = self.encoder(x)
        if self.retriever is not None:  # retrieval
            memory = None  # retrieval
            if retrieved is not None:  # retrieval
                memory = self.retriever.remember(self.encoder(retrieved[0]), *retrieved[1:])  # retrieval
            s = s + self.retriever(s, memory)  # retrieval
        return self.head(s)


def stored_episodes(cells, rng):
    """x, a, r, mask of a random walker's episodes: (GOALS, STORED, STEPS, ...)."""
    envs = Grid(np.repeat(np.arange(GOALS), STORED), cells, rng)
    x, a, r, mask = [], [], [], []
    going = np.ones(len(envs.goals), dtype=bool)
    for _ in range(STEPS):
        x.append(envs.see())
        a.append(rng.integers(4, size=len(going)))
        _, reward, over = envs.step(a[-1])
        r.append(reward * going)
        mask.append(going.copy())
        going &= ~over
    return [torch.from_numpy(np.stack(part, 1)).unflatten(0, (GOALS, STORED)) for part in (x, a, r, mask)]


def draw(stored, goals, rng):
    """A fresh retrieval batch for each of the goals."""
    rows = torch.from_numpy(np.stack([rng.choice(STORED, RETRIEVED, replace=False) for _ in goals]))
    return [part[torch.from_numpy(goals)[:, None], rows] for part in stored]


def evaluate(network, cells, stored, rng, empty=False):
    """The mean number of steps to the goal, over all goals."""
    goals, each = np.arange(GOALS), 8
    envs, taken = Grid(np.repeat(goals, each), cells, rng), np.full(GOALS * each, float(STEPS))
    retrieved = None if empty else draw(stored, goals, rng)
    network.eval()
    for t in range(STEPS):
        with torch.no_grad():
            q = network(torch.from_numpy(envs.see()).view(GOALS, each, -1), retrieved)
        actions = q.argmax(-1).flatten().numpy()
        random = rng.random(len(actions)) < 0.05
        actions[random] = rng.integers(4, size=random.sum())
        _, reward, _ = envs.step(actions)
        taken = np.where((reward > 0) & (taken == STEPS), t + 1, taken)
    network.train()
    return taken.mean()


def train(retrieves, seed, updates):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    away = [(i, j) for i in range(SIDE) for j in range(SIDE) if abs(i - SIDE // 2) + abs(j - SIDE // 2) > 1]
    cells = np.array(away)[rng.permutation(len(away))[:GOALS]]
    stored = stored_episodes(cells, rng)
    network, target = QNetwork(retrieves), QNetwork(retrieves)
    target.load_state_dict(network.state_dict())
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    envs = Grid(np.arange(ENVS) % GOALS, cells, rng)
    replay = [[] for _ in range(GOALS)]  # of each goal: (x, a, r, next x, discount)
    x = envs.see()
    for update in range(updates):
        epsilon = max(1 - update / (0.5 * updates), 0.05)
        with torch.no_grad():
            by_goal = torch.from_numpy(x).view(ENVS // GOALS, GOALS, -1).transpose(0, 1)
            q = network.eval()(by_goal, draw(stored, np.arange(GOALS), rng)).transpose(0, 1).flatten(0, 1)
        network.train()
        actions = np.where(rng.random(ENVS) < epsilon, rng.integers(4, size=ENVS), q.argmax(-1).numpy())
        after, reward, over = envs.step(actions)
        for i in range(ENVS):
            replay[envs.goals[i]].append((x[i], actions[i], reward[i], after[i], DISCOUNT * (reward[i] == 0)))
        envs.begin(np.flatnonzero(over))
        x = envs.see()
        if update < 20:
            continue
        goals = rng.choice(GOALS, 4, replace=False)
        drawn = [[replay[g][i] for i in rng.integers(len(replay[g]), size=BATCH)] for g in goals]
        x_tm1, a_tm1, r_t, x_t, discount_t = (
            torch.from_numpy(np.array([[one[k] for one in of_goal] for of_goal in drawn])) for k in range(5)
        )
        retrieved = draw(stored, goals, rng)
        with torch.no_grad():
            best = network(x_t, retrieved).argmax(-1, keepdim=True)
            value = target(x_t, retrieved).gather(-1, best).squeeze(-1)
        q = network(x_tm1, retrieved).gather(-1, a_tm1[..., None]).squeeze(-1)
        loss = F.huber_loss(q, (r_t + discount_t * value).float())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        if update % 100 == 0:
            target.load_state_dict(network.state_dict())
    of_evaluation = np.random.default_rng(seed + 1000)
    return network, lambda **changes: evaluate(network, cells, stored, of_evaluation, **changes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=UPDATES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {"DQN": [], "with retrieval": [], "with retrieval, emptied": []}
    for seed in range(arguments.seeds):
        found["DQN"].append(train(False, seed, arguments.updates)[1]())
        measure = train(True, seed, arguments.updates)[1]
        found["with retrieval"].append(measure())
        found["with retrieval, emptied"].append(measure(empty=True))
        print(
            f"seed {seed}: steps to the goal", {name: round(float(v[-1]), 1) for name, v in found.items()}, flush=True
        )
    for name in ("DQN", "with retrieval, emptied"):
        less = np.array(found[name]) - np.array(found["with retrieval"])
        low, high = stats.t.interval(0.95, len(less) - 1, less.mean(), stats.sem(less))
        print(f"steps saved against {name}: {less.mean():.1f}, 95 % interval {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
