"""The retrieval process of Goyal et al. (2022), written slowly from the paper's text: NumPy and loops, no shortcuts.

Weights come as a dictionary of matrices W that are applied as W @ x, in float64. Axes are looped over: g group, q
asking state, k slot, i trajectory, j step.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, gain, bias, epsilon=1e-5):
    return (x - x.mean()) / np.sqrt(x.var() + epsilon) * gain + bias


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def gru(x, h, w_x, w_h, b_x, b_h):
    """Cho et al. (2014), in the variant that resets after the product: gates reset, update, then the candidate."""
    d = len(h)
    from_x, from_h = w_x @ x + b_x, w_h @ h + b_h
    reset = sigmoid(from_x[:d] + from_h[:d])
    update = sigmoid(from_x[d : 2 * d] + from_h[d : 2 * d])
    candidate = np.tanh(from_x[2 * d :] + reset * from_h[2 * d :])
    return (1 - update) * candidate + update * h


def summarise_gru(w, x):
    """x (l, d): the forward summary of steps 1..j and the backward summary of steps l..j, for every j."""
    length = len(x)
    summaries = []
    for direction, steps in (("forwards", range(length)), ("backwards", range(length - 1, -1, -1))):
        part = w[direction]
        state = np.zeros(part["w_h"].shape[1])
        out = [None] * length
        for j in steps:
            state = gru(x[j], state, part["w_x"], part["w_h"], part["b_x"], part["b_h"])
            out[j] = state
        summaries.append(np.array(out))
    return summaries


def summarise_decay(w, x):
    """x (l, d): for each time scale the mean over the past (future), weighted by decay to the power of the distance."""
    length = len(x)
    d_h = w["inputs_b"].shape[0] // 2
    width = d_h // len(w["decays"])
    projected = np.array([w["inputs_w"] @ row + w["inputs_b"] for row in x])
    summaries = []
    for number, direction in enumerate(("forwards", "backwards")):
        part = w[direction]
        mine = projected[:, number * d_h : (number + 1) * d_h]
        out = []
        for j in range(length):
            seen = range(j + 1) if direction == "forwards" else range(j, length)
            mean = np.zeros(d_h)
            for c, decay in enumerate(w["decays"]):
                channels = slice(c * width, (c + 1) * width)
                total = 0.0
                for other in seen:
                    weight = 1.0 if other == j else decay ** abs(j - other)
                    mean[channels] += weight * mine[other, channels]
                    total += weight
                mean[channels] /= total
            hidden = np.maximum(layer_norm(mean, part["gain"], part["norm_b"]), 0)
            out.append(part["w"] @ hidden + part["b"])
        summaries.append(np.array(out))
    return summaries


def select(logits, real, k_traj, k_states):
    """Step 2 for one query. logits, real (n_traj, l) -> the set of selected (i, j).

    Softmax over all (i, j), score of a trajectory is the sum of its weights, the k_traj best trajectories, weights
    renormalised over their states, the k_states best states.
    """
    pairs = [(i, j) for i in range(len(logits)) for j in range(len(logits[i])) if real[i][j]]
    weights = dict(zip(pairs, softmax(np.array([logits[i][j] for i, j in pairs])), strict=True))
    scores = {}
    for (i, _), weight in weights.items():
        scores[i] = scores.get(i, 0.0) + weight
    kept = sorted(scores, key=scores.get, reverse=True)[:k_traj]
    weights = {pair: weight for pair, weight in weights.items() if pair[0] in kept}
    total = sum(weights.values())
    weights = {pair: weight / total for pair, weight in weights.items()}
    return set(sorted(weights, key=weights.get, reverse=True)[:k_states])


def self_attention(w, m):
    """m (n_f, d): multi-head self-attention over the slots."""
    n_f, d = m.shape
    size = d // w["heads"]
    queries, keys, values = (
        np.array([w["w_in"][part * d : (part + 1) * d] @ row + w["b_in"][part * d : (part + 1) * d] for row in m])
        for part in range(3)
    )
    out = []
    for k in range(n_f):
        heard = np.zeros(d)
        for head in range(w["heads"]):
            channels = slice(head * size, (head + 1) * size)
            weights = softmax(np.array([queries[k, channels] @ keys[o, channels] for o in range(n_f)]) / np.sqrt(size))
            for o in range(n_f):
                heard[channels] += weights[o] * values[o, channels]
        out.append(w["w_out"] @ heard + w["b_out"])
    return np.array(out)


def gaussian(w, b, x, low=-5.0, high=2.0):
    """Mean and standard deviation of a diagonal Gaussian whose parameters are linear in x."""
    parameters = w @ x + b
    d = len(parameters) // 2
    return parameters[:d], np.exp(np.clip(parameters[d:], low, high))


def kl_divergence(mean_p, std_p, mean_r, std_r):
    return sum(
        np.log(std_r[c] / std_p[c]) + (std_p[c] ** 2 + (mean_p[c] - mean_r[c]) ** 2) / (2 * std_r[c] ** 2) - 0.5
        for c in range(len(mean_p))
    )


def retrieval_step(w, s_t, m_tm1, s, a, r, real, k_traj, k_states, z_of=None):
    """Steps 1 to 6 of Algorithm 1.

    Args:
      w: weights, see `test_retrieval.weights_of`.
      s_t: (G, B, d_s). m_tm1: (G, B, n_f, d_m).
      s: (G, n_traj, l, d_s); a, r, real: (G, n_traj, l).
      k_traj: None keeps all trajectories.
      z_of: (G, B, n_f, d_m), the z that were drawn; None takes the mean.

    Returns:
      alpha (G, B, n_f, n_traj, l), g, mean, std and z (G, B, n_f, ...), kl (G, B), m_t, u and s_tilde.
    """
    groups, asking, n_f = m_tm1.shape[:3]
    n_traj, length = s.shape[1:3]
    out = {"alpha": np.zeros((groups, asking, n_f, n_traj, length))}
    m_hat, read = np.zeros(m_tm1.shape), np.zeros((groups, asking, n_f, w["w_v"].shape[0]))
    for g in range(groups):
        keys, values = {}, {}
        for i in range(n_traj):
            steps = [j for j in range(length) if real[g, i, j]]
            inputs = s[g, i, steps]
            if "actions" in w:
                inputs = np.array([s[g, i, j] + w["actions"][a[g, i, j]] + w["rewards"] * r[g, i, j] for j in steps])
            h, b = {"gru": summarise_gru, "decay": summarise_decay}[w["summariser"]["kind"]](w["summariser"], inputs)
            for row, j in enumerate(steps):
                keys[i, j] = w["w_e"] @ (h[row] + w["w_s"] @ s[g, i, j])
                values[i, j] = w["w_v"] @ b[row]
        for q in range(asking):
            for k in range(n_f):
                # 1. Query.
                m_hat[g, q, k] = gru(s_t[g, q], m_tm1[g, q, k], **w["slot_gru"])
                first, second = w["query"]
                query = second["w"] @ np.maximum(first["w"] @ m_hat[g, q, k] + first["b"], 0) + second["b"]
                # 2. Which trajectories, which states.
                logits = [
                    [query @ keys[i, j] / np.sqrt(len(query)) if real[g, i, j] else None for j in range(length)]
                    for i in range(n_traj)
                ]
                chosen = sorted(select(logits, real[g], k_traj, k_states))
                # 3. Read.
                weights = softmax(np.array([logits[i][j] for i, j in chosen]))
                for (i, j), weight in zip(chosen, weights, strict=True):
                    out["alpha"][g, q, k, i, j] = weight
                    read[g, q, k] += weight * values[i, j]
    out["g"] = read
    if w["standardise"]:
        flat = read.reshape(-1, read.shape[-1])
        mean, variance = (flat.mean(0), flat.var(0)) if w["standardise"] == "batch" else w["standardise"]
        read = (read - mean) / np.sqrt(variance + 1e-5)
    names = ("mean", "std", "z", "m_t")
    out |= {name: np.zeros(m_tm1.shape) for name in names}
    out["kl"] = np.zeros((groups, asking))
    out["u"], out["s_tilde"] = np.zeros(s_t.shape), np.zeros(s_t.shape)
    for g in range(groups):
        for q in range(asking):
            for k in range(n_f):
                # 4. Information bottleneck.
                mean, std = gaussian(*w["posterior"], read[g, q, k])
                out["kl"][g, q] += kl_divergence(mean, std, *gaussian(*w["prior"], m_tm1[g, q, k]))
                out["mean"][g, q, k], out["std"][g, q, k] = mean, std
            z = out["z"][g, q] = out["mean"][g, q] if z_of is None else z_of[g, q]
            # 5. Slot update.
            m = m_hat[g, q] + z
            heard = self_attention(w["slot_attention"], m)
            for k in range(n_f):
                gate = sigmoid(w["gate"][0] @ np.concatenate([m[k], heard[k]]) + w["gate"][1])
                out["m_t"][g, q, k] = layer_norm(m[k] + gate * heard[k], *w["slot_norm"])
            # 6. Agent update.
            d = w["readout_q"] @ s_t[g, q]
            gamma = softmax(np.array([d @ (w["readout_e"] @ z[k]) for k in range(n_f)]) / np.sqrt(len(d)))
            for k in range(n_f):
                out["u"][g, q] += gamma[k] * (w["fusion_v"] @ z[k])
            out["s_tilde"][g, q] = s_t[g, q] + out["u"][g, q]
    return out
