"""The operations a plan may name: exact aten overloads, each group with the reason why it is here.

A name that is not listed does not run; there is no namespace that is allowed as a whole. Never listed:
mutable schemas, `empty*` and `resize_` (they return what the process freed before, such as somebody's
record), `as_strided` and `set_` (they reach beyond a tensor), `from_file`, private and `_foreach` operations.
"""

from __future__ import annotations

OPSET = 1

_GROUPS = {
    "products: layers are made of them": """
        linear.default matmul.default mm.default bmm.default addmm.default baddbmm.default einsum.default""",
    "convolution and pooling: images, sequences, volumes": """
        conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding
        conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input
        max_pool1d.default max_pool2d.default max_pool3d.default avg_pool1d.default avg_pool2d.default
        avg_pool3d.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default
        adaptive_max_pool1d.default adaptive_max_pool2d.default upsample_nearest1d.vec upsample_nearest2d.vec
        upsample_nearest3d.vec upsample_linear1d.vec upsample_bilinear2d.vec upsample_bicubic2d.vec
        upsample_trilinear3d.vec pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default""",
    "normalisation and dropout: batch_norm and instance_norm alone may write, and only to running statistics": """
        batch_norm.default instance_norm.default layer_norm.default group_norm.default rms_norm.default
        dropout.default feature_dropout.default alpha_dropout.default""",
    "sequences: recurrent layers, attention, embeddings": """
        lstm.input gru.input rnn_tanh.input rnn_relu.input lstm_cell.default gru_cell.default rnn_tanh_cell.default
        rnn_relu_cell.default scaled_dot_product_attention.default
        embedding.default embedding_bag.padding_idx one_hot.default""",
    "activations": """
        relu.default relu6.default gelu.default silu.default sigmoid.default tanh.default elu.default selu.default
        leaky_relu.default prelu.default softplus.default hardtanh.default hardswish.default
        hardsigmoid.default mish.default log_sigmoid.default celu.default hardshrink.default softshrink.default
        threshold.default
        glu.default softmax.int log_softmax.int""",
    "arithmetic, element by element": """
        add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar
        div.Tensor_mode div.Scalar_mode pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar neg.default abs.default
        sign.default exp.default expm1.default log.default log1p.default sqrt.default rsqrt.default square.default
        reciprocal.default sin.default cos.default erf.default floor.default ceil.default round.default
        atan.default log2.default logit.default nan_to_num.default lerp.Scalar addcmul.default
        clamp.default clamp_min.default clamp_max.default minimum.default maximum.default
        where.self where.ScalarOther where.ScalarSelf masked_fill.Scalar masked_fill.Tensor""",
    "comparison": """
        eq.Scalar eq.Tensor ne.Scalar ne.Tensor ge.Scalar ge.Tensor gt.Scalar gt.Tensor le.Scalar le.Tensor
        lt.Scalar lt.Tensor logical_not.default logical_and.default logical_or.default
        bitwise_not.default bitwise_and.Tensor bitwise_or.Tensor""",
    "reduction": """
        sum.default sum.dim_IntList mean.default mean.dim amax.default amin.default max.dim min.dim max.default
        min.default argmax.default argmin.default var.correction var.dim std.correction std.dim logsumexp.default
        linalg_vector_norm.default cumsum.default cumprod.default prod.dim_int any.dim all.dim
        var_mean.dim var_mean.correction topk.default sort.default""",
    "shape: the same numbers, arranged otherwise; indices are checked by the kernels": """
        view.default reshape.default flatten.using_ints unflatten.int transpose.int permute.default t.default
        movedim.int squeeze.dim squeeze.dims unsqueeze.default expand.default expand_as.default
        repeat.default cat.default stack.default split.Tensor split_with_sizes.default chunk.default unbind.int
        slice.Tensor select.int narrow.default index_select.default gather.default index.Tensor flip.default
        roll.default pad.default contiguous.default clone.default detach.default tril.default triu.default
        repeat_interleave.self_int scatter_add.default index_add.default
        to.dtype type_as.default broadcast_tensors.default""",
    "fresh tensors, all of them filled; the estimate before the run bounds their size": """
        zeros.default ones.default full.default eye.default eye.m arange.default arange.start arange.start_step
        zeros_like.default ones_like.default full_like.default new_zeros.default new_ones.default new_full.default
        scalar_tensor.default linspace.default bernoulli.default randn.default rand.default randn_like.default
        rand_like.default""",
    "losses": """
        cross_entropy_loss.default nll_loss_nd.default binary_cross_entropy.default
        binary_cross_entropy_with_logits.default mse_loss.default l1_loss.default huber_loss.default
        smooth_l1_loss.default kl_div.default cosine_similarity.default""",
    "sizes: whole numbers that follow the batch": "sym_size.int sym_numel.default",
}

# Not aten: pick one of several results, and arithmetic on whole numbers, bounded to 63 bits.
ITEM = "item"
INTEGER_OPS = frozenset({"int.add", "int.sub", "int.mul", "int.floordiv"})
SIZE, NUMBERS = "aten.sym_size.int", "aten.sym_numel.default"

GROUPS: dict[str, tuple[str, ...]] = {
    reason: tuple(f"aten.{name}" for name in names.split()) for reason, names in _GROUPS.items()
}
ALLOWED = frozenset(name for names in GROUPS.values() for name in names)

# Which arguments a normalisation writes to: they must be buffers of the plan itself.
RUNNING_STATISTICS = {"aten.batch_norm.default": (3, 4), "aten.instance_norm.default": (3, 4)}

# Only so many of the results are filled in every mode of the kernel; the interpreter drops the others.
SAFE_RESULTS = {"aten.embedding_bag.padding_idx": 1}

WORDS = frozenset(
    {
        "none", "tanh",  # gelu
        "floor", "trunc",  # div
        "valid", "same",  # convolution
        "constant", "reflect", "replicate", "circular",  # pad
    }
)  # fmt: skip
EINSUM = "aten.einsum.default"
