"""What several places of a layer need: norm, quantisation, residual, bias."""

import math

from tamale.isa import Destination, Op, Reduce, ScalarOp

from tamale_model.program.emitter import Emitter
from tamale_model.program.layout import group_stride

__all__ = ["Blocks"]


class Blocks(Emitter):
    """An `Emitter` that knows the model's sizes.

    Parameters
    ----------
    config : Config
    graph : Graph
    survey : Survey
    layout : Layout
    residual_bits : int
        Fraction bits of the residual.
    """

    def __init__(self, config, graph, survey, layout, residual_bits):
        super().__init__(config)
        self.graph, self.survey, self.layout = graph, survey, layout
        self.residual_bits = residual_bits
        #: Elements of the largest power of two that divides the head size.
        self.head_block = graph.head_size & -graph.head_size

    @property
    def log2_block(self):
        """Logarithm of the block of the Hadamard transform."""
        return int(math.log2(self.head_block))

    # Norms ------------------------------------------------------------------------------------

    def normalise(self, a, n, *, peak, gain, dst, rd, shift=0):
        """``dst`` = a * gain; sum of squares of a to `square`, absmax of the result to ``rd``.

        ``peak`` holds the absmax of a, ``gain`` lies in the scratchpad of all slots.
        """
        self.vec(
            a, n, b=a, x=peak, by_vector=1, b_shift=-1, b_by_x=1, shift=2, by_x=1,
            reduce=Reduce.SUM, rd="square",
        )  # fmt: skip
        self.vec(
            a, n, b=("shared", gain), dst=dst, x=peak, by_vector=1, shift=shift, by_x=1,
            reduce=Reduce.ABSMAX, rd=rd,
        )  # fmt: skip

    def mean_square(self, *, peak, inverse, epsilon):
        """`square` = mean square of the vector that `normalise` took, and epsilon."""
        self.scalar(ScalarOp.SHIFT, "square", "square", peak, 2)
        self.scalar(ScalarOp.SHIFT, "square", "square", peak, -1)
        self.scalar(ScalarOp.MUL, "square", "square", inverse)
        self.scalar(ScalarOp.ADD, "square", "square", epsilon)

    def code_value(self, sigma, *, peak, unit):
        """``sigma`` = real value of a code: absmax(x g) / (rms(x) 127), from `peak`, `square`."""
        self.scalar(ScalarOp.SQRT, "root", "square")
        self.scalar(ScalarOp.MUL, "root", "root", unit)
        self.scalar(ScalarOp.SHIFT, sigma, "peak", peak, 0)
        self.scalar(ScalarOp.DIV, sigma, sigma, "root")

    def norm(
        self, a, n, name, *, peak, inverse, epsilon, unit, dst, sigma="sigma", own_epsilon=None
    ):
        """RMSNorm of a, then int8 codes to activation step 0 for the matrix ``name``.

        Codes and root mean square are independent of each other. With ``own_epsilon`` the matrix's
        own norm follows, whose gain lies at `own_gain`.

        Parameters
        ----------
        a, n : int
            The vector, of the slot.
        name : str
            A matrix that reads the codes: every group of it starts at a K step.
        peak, inverse, epsilon, unit : str
            Scalars: absmax of a; 1 / n; epsilon in a's unit squared; 127 in units of the gain.
        dst : int
            Room for the normalised vector.
        sigma : str
            Scalar for the real value of a code.
        own_epsilon : str, optional
            Epsilon of the matrix's own norm in units of the gain squared.
        """
        if own_epsilon is not None:
            self.normalise(a, n, peak=peak, gain=self.layout.gain, dst=dst, rd="weight_peak")
            self.mean_square(peak=peak, inverse=inverse, epsilon=epsilon)
            # A normalised element is y 2**c / (gain unit root); the second epsilon in units of y.
            self.scalar(ScalarOp.SHIFT, "scratch", "one", peak, 0)
            self.scalar(ScalarOp.MUL, "unit", "square", own_epsilon)
            self.scalar(ScalarOp.DIV, "unit", "unit", "scratch")
            self.scalar(ScalarOp.DIV, "unit", "unit", "scratch")
            a, peak, epsilon, unit = dst, "weight_peak", "unit", "own_norm"
        gain = self.layout.gain if own_epsilon is None else self.layout.own_gain
        self.normalise(a, n, peak=peak, gain=gain, dst=dst, rd="peak")
        self.quantise(dst, n, stride=self.stride(name, n))
        self.mean_square(peak=peak, inverse=inverse, epsilon=epsilon)
        self.code_value(sigma, peak=peak, unit=unit)

    def stride(self, name, k):
        """Elements between the groups of a matrix in activation memory; 0: they leave no gaps."""
        return group_stride(self.config, self.survey.roles[name], k) if name else 0

    def quantise(self, a, n, *, peak="peak", vector=0, vector_slot=1, step=0, stride=0):
        """int8 codes of the vector at ``a`` whose absmax is in ``peak``.

        ``stride``: elements after which the codes go on at the next K step; 0: never.
        """
        self.scalar(ScalarOp.DIV, "ratio", "code_limit", peak)
        stride = stride or n
        for first in range(0, n, stride):
            self.vec(
                a + first, min(stride, n - first), m="ratio", by_m=1, dst=("shared", step),
                destination=Destination.ACTIVATION, vector=vector, vector_slot=vector_slot,
            )  # fmt: skip
            step += -(-stride // self.config.tile_k)

    # Residual ---------------------------------------------------------------------------------

    def residual_norm(self, name, unit, *, dst, sigma="sigma", own_epsilon=None):
        """The residual's norm, see `norm`."""
        self.norm(
            self.layout.x, self.graph.hidden, name, peak="residual_peak", inverse="inverse_hidden",
            epsilon="epsilon_residual", unit=unit, dst=dst, sigma=sigma, own_epsilon=own_epsilon,
        )  # fmt: skip

    def residual_add(self, unit, *, bias=False):
        """Add the product in the work area, and the bias in the buffer, to the residual."""
        x, hidden = self.layout.x, self.graph.hidden
        self.scalar(ScalarOp.MUL, "scratch", "sigma", unit)
        reduce = {"reduce": Reduce.ABSMAX, "rd": "residual_peak"}
        self.vec(
            self.layout.work, hidden, m="scratch", by_m=1, b=x, add=1, dst=x,
            **({} if bias else reduce),
        )  # fmt: skip
        if bias:
            self.vec(x, hidden, m="one", by_m=1, b=("shared", self.layout.bias), add=1, dst=x,
                     **reduce)  # fmt: skip

    def add_bias(self, a, n, unit, sigma):
        """a = a * sigma * unit + the bias in the buffer, in every slot."""
        self.emit(Op.LOOP, level=1)
        self.scalar(ScalarOp.MUL, "scratch", sigma, unit)
        self.vec(a, n, m="scratch", by_m=1, b=("shared", self.layout.bias), add=1, dst=a)
        self.emit(Op.NEXT, level=1)

    # Heads ------------------------------------------------------------------------------------

    def rotate(self, a, n, shift):
        """Rotary embedding of whole heads."""
        self.emit(
            Op.ROPE, a=a, a_slot=1, b=self.layout.rope, b_slot=1, n=n, size=self.graph.head_size,
            shift=shift,
        )  # fmt: skip

    def hadamard(self, a, n, rd="peak"):
        """Hadamard transform of whole heads; absmax to ``rd``."""
        self.emit(Op.HADAMARD, a=a, a_slot=1, n=n, log2_block=self.log2_block, rd=self.number(rd))

    def head_norm(self, a):
        """A head's own norm in place; a unit of the result is worth `head_sigma` units of gain.

        Leaves the bits that rotation and Hadamard transform need. `head_epsilon` is the epsilon in
        the unit of the head, squared.
        """
        size, growth = self.graph.head_size, self.log2_block + 1
        self.vec(a, size, m="one", by_m=1, reduce=Reduce.ABSMAX, rd="peak")
        self.normalise(
            a, size, peak="peak", gain=self.layout.head_gain, dst=a, rd="ratio", shift=growth
        )
        self.mean_square(peak="peak", inverse="inverse_head", epsilon="head_epsilon")
        self.scalar(ScalarOp.SQRT, "root", "square")
        self.scalar(ScalarOp.SHIFT, "head_sigma", "one", "peak", growth)
        self.scalar(ScalarOp.DIV, "head_sigma", "head_sigma", "root")

    def head_epsilon(self, sigma, unit):
        """`head_epsilon` for heads whose units are worth sigma * unit."""
        self.scalar(ScalarOp.MUL, "scratch", sigma, unit)
        self.scalar(ScalarOp.MUL, "scratch", "scratch", "scratch")
        self.scalar(ScalarOp.DIV, "head_epsilon", "epsilon_head", "scratch")
