"""Chapter 5: patches, one product, and the way back."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def im2col(x, k, stride, padding):
    """All patches of k x k pixels, each as one column.            # (N,C,H,W) -> (N,C·k·k,H'·W')

        H' = (H + 2 padding − k) // stride + 1,   W' alike;   outside of the image there are zeros

        row (c k + u) k + v, column i W' + j:    x[n, c, stride · i + u − padding, stride · j + v − padding]
    """
    n, c, height, width = x.shape
    rows, columns = (height + 2 * padding - k) // stride + 1, (width + 2 * padding - k) // stride + 1
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    patches = np.empty((n, c, k, k, rows, columns), x.dtype)
    for u in range(k):
        for v in range(k):
            patches[:, :, u, v] = x[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride]
    return patches.reshape(n, c * k * k, rows * columns)


def conv2d(x, w, b, stride, padding):
    """Convolution.            # (N,C,H,W) (O,C,k,k) (O,) -> (N,O,H',W')

        y[n,o,i,j] = b[o] + Σ_{c,u,v} w[o,c,u,v] x[n, c, stride · i + u − padding, stride · j + v − padding]

    im2col(x, k, stride, padding) is there and gives (N,C·k·k,H'·W').
    """
    n, k = len(x), w.shape[2]
    rows, columns = ((size + 2 * padding - k) // stride + 1 for size in x.shape[2:])
    y = w.reshape(len(w), -1) @ im2col(x, k, stride, padding) + b[:, None]
    return y.reshape(n, len(w), rows, columns)


def conv2d_backward(x, w, gy, stride, padding):
    """The gradients of the convolution y = conv2d(x, w, b, stride, padding).            # -> gx, gw, gb of x's, w's and b's shape

        gb[o] = Σ gy[n,o,i,j]    over n, i, j
        gw[o,c,u,v] = Σ gy[n,o,i,j] x[n, c, stride · i + u − padding, stride · j + v − padding]    over n, i, j
        gx: each gy[n,o,i,j] w[o,c,u,v] is added to the pixel that w[o,c,u,v] was multiplied with

    im2col(x, k, stride, padding) is there and gives (N,C·k·k,H'·W'). `minidiff exercises swap conv2d_backward` trains with yours.
    """
    (n, c, height, width), (o, _, k, _), (rows, columns) = x.shape, w.shape, gy.shape[2:]
    gb = gy.sum(axis=(0, 2, 3))
    flat = gy.reshape(n, o, -1)
    gw = (flat @ im2col(x, k, stride, padding).transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    patches = (w.reshape(o, -1).T @ flat).reshape(n, c, k, k, rows, columns)
    gx = np.zeros((n, c, height + 2 * padding, width + 2 * padding), x.dtype)
    for u in range(k):
        for v in range(k):
            gx[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride] += patches[:, :, u, v]
    return gx[:, :, padding : padding + height, padding : padding + width], gw, gb


def conv_transpose2d(x, w, stride):
    """The transpose of a convolution: each pixel is spread over a patch.            # (N,C,H,W) (C,O,k,k) -> (N,O,H',W')

        y[n, o, stride · i + u, stride · j + v] += w[c,o,u,v] x[n,c,i,j]    for all c, i, j, u, v

        H' = (H − 1) stride + k

    This is what brings the U-Net back up to full size, and what carries gy back to x in conv2d_backward.
    """
    (n, _, height, width), (_, o, k, _) = x.shape, w.shape
    y = np.zeros((n, o, (height - 1) * stride + k, (width - 1) * stride + k), x.dtype)
    for u in range(k):
        for v in range(k):
            spread = np.einsum("co,nchw->nohw", w[:, :, u, v], x)
            y[:, :, u : u + stride * height : stride, v : v + stride * width : stride] += spread
    return y


def _patches(x, k, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(len(x), x.shape[1] * k * k, -1)


def _conv(x, w, b, stride, padding):
    return ops.conv2d(Tensor(x), Tensor(w), Tensor(b), stride, padding).numpy()


def _conv_backward(x, w, gy, stride, padding):
    x, w, b = (Tensor(a, requires_grad=True) for a in (x, w, np.zeros(len(w))))
    ops.conv2d(x, w, b, stride, padding).backward(gy)
    return x.grad.numpy(), w.grad.numpy(), b.grad.numpy()


def _cases(rng):
    """x, w, and what comes out; the last so that pixels at the edge are never reached."""
    for n, c, o, k, size, stride, padding in [(1, 1, 1, 2, (3, 4), 1, 0), (2, 3, 4, 3, (5, 4), 1, 1), (3, 2, 2, 3, (6, 7), 2, 1), (2, 2, 3, 2, (5, 6), 2, 0)]:
        x, w = rng.standard_normal((n, c, *size)), rng.standard_normal((o, c, k, k))
        out = [(s + 2 * padding - k) // stride + 1 for s in size]
        yield x, w, rng.standard_normal((n, o, *out)), stride, padding


TASKS = [
    Task(
        im2col, "Patches as columns", 5, "medium", 20,
        reference=_patches,
        cases=lambda rng: [(x, w.shape[2], stride, padding) for x, w, _, stride, padding in _cases(rng)],
        hints=(
            "Do not go from patch to patch. Go from place to place inside the patch: k · k copies of a slice, and no more.",
            "For fixed u and v, the pixels of all patches are a slice of the padded image: it begins at u, and goes in steps of `stride`.",
            "patches[:, :, u, v] = x[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride] into (N,C,k,k,rows,columns); then reshape.",
        ),
        slips=[
            ("((0, 0), (0, 0), (padding, padding), (padding, padding))", "((0, 0), (0, 0), (0, 2 * padding), (0, 2 * padding))", "the zeros must lie all around the image, not only behind it"),
            ("patches = np.empty((n, c, k, k, rows, columns), x.dtype)\n    for u in range(k):\n        for v in range(k):\n            patches[:, :, u, v] =",
             "patches = np.empty((n, c, k, k, rows, columns), x.dtype)\n    for u in range(k):\n        for v in range(k):\n            patches[:, :, v, u] =",
             "u goes down and v to the right: they are exchanged"),
            ("patches.reshape(n, c * k * k, rows * columns)", "patches.transpose(0, 2, 3, 1, 4, 5).reshape(n, c * k * k, rows * columns)", "the rows are to go by channel first, then by u and v"),
            ("u : u + stride * rows : stride, v : v + stride * columns : stride", "u : u + rows, v : v + columns", "the patches lie `stride` pixels apart, and these lie side by side"),
        ],
    ),
    Task(
        conv2d, "Convolution as one product", 5, "medium", 15,
        reference=_conv, given=(im2col,),
        cases=lambda rng: [(x, w, rng.standard_normal(len(w)), stride, padding) for x, w, _, stride, padding in _cases(rng)],
        hints=(
            "Each output channel is a row of weights times the columns of im2col.",
            "w.reshape(O, C·k·k) @ im2col(…) is (N,O,H'·W'): matmul repeats the weights for every n by itself.",
            "y = w.reshape(len(w), −1) @ im2col(x, k, stride, padding) + b[:, None], reshaped to (N,O,H',W').",
        ),
        slips=[
            (" + b[:, None]", "", "the bias is missing"),
            ("w.reshape(len(w), -1)", "w[:, :, ::-1, ::-1].reshape(len(w), -1)", "the kernel is turned by 180 degrees: that is convolution as in mathematics, and networks do not turn it"),
            ("w.reshape(len(w), -1)", "w.transpose(0, 1, 3, 2).reshape(len(w), -1)", "the kernel is transposed: u goes down and v to the right"),
            ("y = w.reshape(len(w), -1) @ im2col(x, k, stride, padding) + b[:, None]", "y = (w.reshape(len(w), -1) @ im2col(x, k, stride, padding)) * b[:, None]", "the bias is to be added, not multiplied"),
        ],
    ),
    Task(
        conv2d_backward, "Convolution, backwards", 5, "hard", 40,
        reference=_conv_backward, given=(im2col,), outputs=("gx", "gw", "gb"),
        cases=_cases,
        hints=(
            "With patches, y = w cols is a product of matrices, and you know the gradients of that. Only gx needs something new: from patches back to the image.",
            "gw = Σₙ gy colsᵀ. The patches' gradient is wᵀ gy, (N,C·k·k,H'·W'); where patches overlap, a pixel gets the sum of what they bring.",
            "Into zeros of the padded size: gx[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride] += patches[:, :, u, v] for all u, v; then cut the padding off.",
        ),
        slips=[
            ("columns : stride] += patches[:, :, u, v]", "columns : stride] = patches[:, :, u, v]", "patches overlap: what meets in one pixel must be added, not overwritten"),
            (".transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)", ".transpose(0, 2, 1)).mean(axis=0).reshape(w.shape)", "gw is the sum over the batch, not the mean"),
            ("(flat @ im2col(x, k, stride, padding).transpose(0, 2, 1)).sum(axis=0)", "(flat @ im2col(x, k, stride, padding).transpose(0, 2, 1))[0]", "the sum over the batch is missing in gw: only the first sample counts"),
            ("gy.sum(axis=(0, 2, 3))", "gy.sum(axis=(2, 3))", "the sum over the batch is missing in gb"),
            ("gy.sum(axis=(0, 2, 3))", "gy.mean(axis=(0, 2, 3))", "gb is a sum over samples and pixels, not a mean"),
            ("gx[:, :, padding : padding + height, padding : padding + width]", "gx[:, :, :height, :width]", "the padding lies all around gx: cut it off at the top and on the left as well"),
            ("patches = (w.reshape(o, -1).T @ flat)", "patches = (w[:, :, ::-1, ::-1].reshape(o, -1).T @ flat)", "for spreading patches the kernel stays as it is: turning it belongs to the other way, gx as a convolution of gy"),
            ("u : u + stride * rows : stride, v : v + stride * columns : stride", "u : u + rows, v : v + columns", "the patches lie `stride` pixels apart, and here they are put side by side"),
        ],
    ),
    Task(
        conv_transpose2d, "Spread a pixel over a patch", 5, "medium", 20,
        reference=lambda x, w, stride: ops.conv_transpose2d(Tensor(x), Tensor(w), None, stride).numpy(),
        cases=lambda rng: [
            (rng.standard_normal((n, c, *size)), rng.standard_normal((c, o, k, k)), stride)
            for n, c, o, k, size, stride in [(1, 1, 1, 2, (2, 3), 2), (2, 3, 2, 3, (3, 2), 2), (2, 2, 2, 3, (4, 3), 1)]
        ],
        hints=(
            "It is conv2d_backward's way to gx, with w's first two axes named the other way round.",
            "For fixed u and v: mix the channels, Σ_c w[c,o,u,v] x[n,c], and add the result to every stride-th pixel from (u,v) on.",
            'spread = np.einsum("co,nchw->nohw", w[:, :, u, v], x), and y[:, :, u : u + stride * height : stride, …] += spread.',
        ),
        slips=[
            ("width : stride] += spread", "width : stride] = spread", "where patches overlap, what they bring must be added up"),
            ("(height - 1) * stride + k, (width - 1) * stride + k", "height * stride, width * stride", "the image comes out (H − 1) stride + k high, and so wide: not H stride, which is the same for k = stride only"),
            ("w[:, :, u, v], x)", "w[:, :, k - 1 - u, k - 1 - v], x)", "the kernel is turned by 180 degrees"),
            ("w[:, :, u, v], x)", "w[:, :, v, u], x)", "u goes down and v to the right: they are exchanged"),
        ],
    ),
]  # fmt: skip
