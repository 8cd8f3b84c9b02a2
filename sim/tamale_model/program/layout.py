"""Places of vectors in the scratchpad and in activation memory."""

from tamale_model.model import LINEARS

__all__ = ["Layout"]


def _up(value, multiple):
    return -(-value // multiple) * multiple


class Layout:
    """Addresses, in elements of the scratchpad and K steps of activation memory.

    Scratchpad of a slot: residual ``x``, rotary factors, then a work area that keys, values,
    queries, attention output and feed-forward vectors share. For all slots: gains of norms and
    matrices, a bias, the gate's sigmoid, an old block of values, scores with the value scales
    behind them, head outputs.

    Parameters
    ----------
    config : Config
    graph : Graph
    survey : Survey
    context : int
        Positions of a sequence.

    Raises
    ------
    ValueError
        If the configuration's memories are too small.
    """

    def __init__(self, config, graph, survey, context):
        self.align = max(config.vu_width, config.tile_rows)
        roles = survey.roles
        up = self._up
        hidden, query, kv = graph.hidden, graph.query_size, graph.kv_size
        longest = max(hidden, query, graph.feed_forward)
        # Gains are loaded by beats of 16-bit elements, biases by beats of 32 bits.
        beat = max(self.align, config.beat_bytes // 2)

        self.x = 0
        self.rope = self.x + up(hidden)
        self.work = self.rope + _up(graph.head_size, beat)
        self.k = self.work
        self.v = self.k + up(kv)
        self.q = self.v + up(kv)
        self.attention = self.q + up(query)
        self.gate = self.work
        self.up = self.gate + up(graph.feed_forward)
        end = max(
            self.attention + up(query),
            self.up + up(graph.feed_forward),
            self.work + _up(hidden, max(self.align, config.beat_bytes)),
        )
        # Where matrices that read the residual need codes of their own, the normalised vector must
        # not lie where the results of the first of them go.
        self.normed = self.work
        if not (one_input(config, roles, "k", "v", "q") and one_input(config, roles, "gate", "up")):
            self.normed = end
            end += up(hidden)
        self.slot_stride = up(end)

        at = self.slot_stride * config.vectors
        self.gain = at
        at += _up(longest, beat)
        self.own_gain = at
        if any(role.norm for role in roles.values()):
            at += _up(longest, beat)
        self.head_gain = at
        if survey.norms & {"query_norm", "key_norm"}:
            at += _up(graph.head_size, beat)
        self.bias = at
        if any(role.bias for role in roles.values()):
            at += _up(longest, beat)
        self.sigmoid = at
        if graph.activation == "silu":
            at += up(graph.feed_forward)
        self.block = at
        at += up(graph.head_size // config.tile_rows * config.value_planes * config.beat_bytes // 4)
        self.scores = at
        self.score_stride = up(context)
        at += (config.vectors + 1) * self.score_stride
        self.outputs = at
        self.output_stride = up(graph.head_size)
        at += config.vectors * self.output_stride
        self.scratch_elements = at
        if at > config.scratchpad_elements:
            raise ValueError(
                f"{graph.name} needs {at} scratchpad elements at context {context} with "
                f"{config.vectors} vectors, the configuration has {config.scratchpad_elements}; "
                "raise scratchpad_elements, or lower context or vectors"
            )

        steps = [-(-size // config.tile_k) for size in (longest, graph.head_size, context)]
        # Groups that do not fill their last K step make a row longer.
        for name in LINEARS:
            k = {"o": query, "down": graph.feed_forward}.get(name, hidden)
            size = roles[name].group_size or k
            steps[0] = max(steps[0], -(-k // size) * -(-size // config.tile_k))
        self.act_query = steps[0]
        self.act_probability = steps[0] + steps[1]
        self.act_steps = sum(steps)
        if self.act_steps > config.act_steps:
            raise ValueError(
                f"{graph.name} needs {self.act_steps} K steps of activation memory, "
                f"the configuration has {config.act_steps}; raise max_k or max_context"
            )

    def _up(self, value):
        return _up(value, self.align)


def group_stride(config, role, k):
    """Elements between groups in activation memory if groups leave gaps, otherwise 0."""
    size = role.group_size
    return size if 0 < size < k and size % config.tile_k else 0


def one_input(config, roles, *names):
    """Whether matrices that read the same vector can read the same codes of it."""
    sizes = {roles[name].group_size for name in names}
    gaps = {size for size in sizes if size % config.tile_k}
    return not any(roles[name].norm for name in names) and (not gaps or len(sizes) == 1)
