"""How other libraries spell networks that timm has: torchvision, transformers, and the projects that published them."""

from __future__ import annotations

from clop_det.backbones.parts import OWN, TRANSFORMERS
from clop_det.backbones.timm_networks.layouts import Layout

_TORCHVISION = (
    Layout(
        "torchvision",
        "torchvision's ConvNeXt",
        r"((?:.+\.)?)features\.1\.0\.layer_scale",
        """
        features.0.<n>.*                stem.<n>.*
        features.<s>.<b>.block.0.*      stages.<s/2>.blocks.<b>.conv_dw.*
        features.<s>.<b>.block.2.*      stages.<s/2>.blocks.<b>.norm.*
        features.<s>.<b>.block.3.*      stages.<s/2>.blocks.<b>.mlp.fc1.*
        features.<s>.<b>.block.5.*      stages.<s/2>.blocks.<b>.mlp.fc2.*
        features.<s>.<b>.layer_scale    stages.<s/2>.blocks.<b>.gamma
        features.<s>.<n>.*              stages.<s/2>.downsample.<n>.*
        classifier.0.*                  head.norm.*
        """,
    ),
    Layout(
        "torchvision",
        "torchvision's ViT",
        r"((?:.+\.)?)encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight",
        """
        class_token                                             cls_token
        conv_proj.*                                             patch_embed.proj.*
        encoder.pos_embedding                                   pos_embed
        encoder.layers.encoder_layer_<b>.ln_<n>.*               blocks.<b>.norm<n>.*
        encoder.layers.encoder_layer_<b>.self_attention.in_proj_*     blocks.<b>.attn.qkv.*
        encoder.layers.encoder_layer_<b>.self_attention.out_proj.*    blocks.<b>.attn.proj.*
        encoder.layers.encoder_layer_<b>.mlp.0.*                blocks.<b>.mlp.fc1.*
        encoder.layers.encoder_layer_<b>.mlp.3.*                blocks.<b>.mlp.fc2.*
        encoder.layers.encoder_layer_<b>.mlp.linear_<n>.*       blocks.<b>.mlp.fc<n>.*
        encoder.ln.*                                            norm.*
        """,
    ),
    Layout(
        "torchvision",
        "torchvision's Swin",
        r"((?:.+\.)?)features\.1\.0\.attn\.relative_position_bias_table",
        """
        features.0.0.*                  patch_embed.proj.*
        features.0.2.*                  patch_embed.norm.*
        features.<s>.<b>.mlp.0.*        layers.<s/2>.blocks.<b>.mlp.fc1.*
        features.<s>.<b>.mlp.3.*        layers.<s/2>.blocks.<b>.mlp.fc2.*
        features.<s>.<b>.norm<n>.*      layers.<s/2>.blocks.<b>.norm<n>.*
        features.<s>.<b>.attn.*         layers.<s/2>.blocks.<b>.attn.*
        features.<s>.norm.*             layers.<s/2>.downsample.norm.*
        features.<s>.reduction.*        layers.<s/2>.downsample.reduction.*
        norm.*
        """,
    ),
    Layout(
        "torchvision",
        "torchvision's RegNet",
        r"((?:.+\.)?)trunk_output\.block1\.block1-0\.f\.a\.0\.weight",
        """
        stem.0.*                                        stem.conv.*
        stem.1.*                                        stem.bn.*
        trunk_output.block<s>.block<n>-<b>.f.a.0.*      s<s>.b<b+1>.conv1.conv.*
        trunk_output.block<s>.block<n>-<b>.f.a.1.*      s<s>.b<b+1>.conv1.bn.*
        trunk_output.block<s>.block<n>-<b>.f.b.0.*      s<s>.b<b+1>.conv2.conv.*
        trunk_output.block<s>.block<n>-<b>.f.b.1.*      s<s>.b<b+1>.conv2.bn.*
        trunk_output.block<s>.block<n>-<b>.f.c.0.*      s<s>.b<b+1>.conv3.conv.*
        trunk_output.block<s>.block<n>-<b>.f.c.1.*      s<s>.b<b+1>.conv3.bn.*
        trunk_output.block<s>.block<n>-<b>.f.se.*       s<s>.b<b+1>.se.*
        trunk_output.block<s>.block<n>-<b>.proj.0.*     s<s>.b<b+1>.downsample.conv.*
        trunk_output.block<s>.block<n>-<b>.proj.1.*     s<s>.b<b+1>.downsample.bn.*
        """,
    ),
)
_EMBEDDED = """
        embeddings.cls_token                                cls_token
        embeddings.register_tokens                          reg_token
        embeddings.position_embeddings                      pos_embed
        embeddings.patch_embeddings.projection.*            patch_embed.proj.*
        encoder.layer.<b>.attention.attention.qkv.*         blocks.<b>.attn.qkv.*
        encoder.layer.<b>.attention.output.dense.*          blocks.<b>.attn.proj.*
        layernorm.*                                         norm.*
"""
_HUGGING_FACE = (
    Layout(
        TRANSFORMERS,
        "transformers' ViT",
        r"((?:.+\.)?)encoder\.layer\.0\.layernorm_before\.weight",
        f"""{_EMBEDDED}
        encoder.layer.<b>.layernorm_before.*                blocks.<b>.norm1.*
        encoder.layer.<b>.layernorm_after.*                 blocks.<b>.norm2.*
        encoder.layer.<b>.intermediate.dense.*              blocks.<b>.mlp.fc1.*
        encoder.layer.<b>.output.dense.*                    blocks.<b>.mlp.fc2.*
        """,
    ),
    Layout(
        TRANSFORMERS,
        "transformers' Dinov2",
        r"((?:.+\.)?)encoder\.layer\.0\.layer_scale1\.lambda1",
        f"""{_EMBEDDED}
        encoder.layer.<b>.norm<n>.*                         blocks.<b>.norm<n>.*
        encoder.layer.<b>.mlp.fc<n>.*                       blocks.<b>.mlp.fc<n>.*
        encoder.layer.<b>.mlp.weights_in.*                  blocks.<b>.mlp.fc1.*
        encoder.layer.<b>.mlp.weights_out.*                 blocks.<b>.mlp.fc2.*
        encoder.layer.<b>.layer_scale<n>.lambda1            blocks.<b>.ls<n>.gamma
        """,
    ),
    Layout(
        TRANSFORMERS,
        "transformers' DINOv3ViT",
        r"((?:.+\.)?)(?<!encoder\.)layer\.0\.layer_scale1\.lambda1",
        """
        embeddings.cls_token                    cls_token
        embeddings.register_tokens              reg_token
        embeddings.patch_embeddings.*           patch_embed.proj.*
        layer.<b>.norm<n>.*                     blocks.<b>.norm<n>.*
        layer.<b>.attention.qkv.weight          blocks.<b>.attn.qkv.weight
        layer.<b>.attention.q_proj.bias         blocks.<b>.attn.q_bias
        layer.<b>.attention.v_proj.bias         blocks.<b>.attn.v_bias
        layer.<b>.attention.o_proj.*            blocks.<b>.attn.proj.*
        layer.<b>.layer_scale<n>.lambda1        blocks.<b>.gamma_<n>
        layer.<b>.mlp.fc1_g.*                   blocks.<b>.mlp.fc1_g.*
        layer.<b>.mlp.fc1_x.*                   blocks.<b>.mlp.fc1_x.*
        layer.<b>.mlp.up_proj.*                 blocks.<b>.mlp.fc1.*
        layer.<b>.mlp.down_proj.*               blocks.<b>.mlp.fc2.*
        norm.*
        """,
    ),
    Layout(
        TRANSFORMERS,
        "transformers' DINOv3ConvNext",
        r"((?:.+\.)?)stages\.0\.layers\.0\.depthwise_conv\.weight",
        """
        stages.0.downsample_layers.<n>.*                stem.<n>.*
        stages.<s>.downsample_layers.<n>.*              stages.<s>.downsample.<n>.*
        stages.<s>.layers.<b>.depthwise_conv.*          stages.<s>.blocks.<b>.conv_dw.*
        stages.<s>.layers.<b>.layer_norm.*              stages.<s>.blocks.<b>.norm.*
        stages.<s>.layers.<b>.pointwise_conv<n>.*       stages.<s>.blocks.<b>.mlp.fc<n>.*
        stages.<s>.layers.<b>.gamma                     stages.<s>.blocks.<b>.gamma
        layer_norm.*                                    head.norm.*
        """,
    ),
    Layout(
        TRANSFORMERS,
        "transformers' ConvNext",
        r"((?:.+\.)?)encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        """
        embeddings.patch_embeddings.*                       stem.0.*
        embeddings.layernorm.*                              stem.1.*
        encoder.stages.<s>.layers.<b>.dwconv.*              stages.<s>.blocks.<b>.conv_dw.*
        encoder.stages.<s>.layers.<b>.layernorm.*           stages.<s>.blocks.<b>.norm.*
        encoder.stages.<s>.layers.<b>.pwconv<n>.*           stages.<s>.blocks.<b>.mlp.fc<n>.*
        encoder.stages.<s>.layers.<b>.grn.*                 stages.<s>.blocks.<b>.mlp.grn.*
        encoder.stages.<s>.layers.<b>.layer_scale_parameter stages.<s>.blocks.<b>.gamma
        encoder.stages.<s>.downsampling_layer.<n>.*         stages.<s>.downsample.<n>.*
        layernorm.*                                         head.norm.*
        """,
    ),
    Layout(
        TRANSFORMERS,
        "transformers' Swin",
        r"((?:.+\.)?)encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight",
        """
        embeddings.patch_embeddings.projection.*                    patch_embed.proj.*
        embeddings.norm.*                                           patch_embed.norm.*
        encoder.layers.<s>.blocks.<b>.layernorm_before.*            layers.<s>.blocks.<b>.norm1.*
        encoder.layers.<s>.blocks.<b>.layernorm_after.*             layers.<s>.blocks.<b>.norm2.*
        encoder.layers.<s>.blocks.<b>.attention.self.*              layers.<s>.blocks.<b>.attn.*
        encoder.layers.<s>.blocks.<b>.attention.output.dense.*      layers.<s>.blocks.<b>.attn.proj.*
        encoder.layers.<s>.blocks.<b>.intermediate.dense.*          layers.<s>.blocks.<b>.mlp.fc1.*
        encoder.layers.<s>.blocks.<b>.output.dense.*                layers.<s>.blocks.<b>.mlp.fc2.*
        encoder.layers.<s>.downsample.*                             layers.<s+1>.downsample.*
        layernorm.*                                                 norm.*
        """,
    ),
    # A block's third layer is attention in RegNetY, and its last convolution the one behind.
    Layout(
        TRANSFORMERS,
        "transformers' RegNet",
        r"((?:.+\.)?)encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.weight",
        """
        embedder.embedder.convolution.*                             stem.conv.*
        embedder.embedder.normalization.*                           stem.bn.*
        encoder.stages.<s>.layers.<b>.shortcut.convolution.*        s<s+1>.b<b+1>.downsample.conv.*
        encoder.stages.<s>.layers.<b>.shortcut.normalization.*      s<s+1>.b<b+1>.downsample.bn.*
        encoder.stages.<s>.layers.<b>.layer.0.convolution.*         s<s+1>.b<b+1>.conv1.conv.*
        encoder.stages.<s>.layers.<b>.layer.0.normalization.*       s<s+1>.b<b+1>.conv1.bn.*
        encoder.stages.<s>.layers.<b>.layer.1.convolution.*         s<s+1>.b<b+1>.conv2.conv.*
        encoder.stages.<s>.layers.<b>.layer.1.normalization.*       s<s+1>.b<b+1>.conv2.bn.*
        encoder.stages.<s>.layers.<b>.layer.2.attention.0.*         s<s+1>.b<b+1>.se.fc1.*
        encoder.stages.<s>.layers.<b>.layer.2.attention.2.*         s<s+1>.b<b+1>.se.fc2.*
        encoder.stages.<s>.layers.<b>.layer.<n>.convolution.*       s<s+1>.b<b+1>.conv3.conv.*
        encoder.stages.<s>.layers.<b>.layer.<n>.normalization.*     s<s+1>.b<b+1>.conv3.bn.*
        """,
        ("embedder.embedder.convolution.weight", 3),
    ),
)
_PROJECTS = (
    Layout(
        OWN,
        "the names of Swin's own code",
        r"((?:.+\.)?)(?<!encoder\.)layers\.0\.downsample\.reduction\.weight",
        """
        layers.<s>.downsample.*         layers.<s+1>.downsample.*
        layers.<s>.blocks.*
        patch_embed.*
        norm.*
        """,
    ),
    Layout(
        OWN,
        "the names of ConvNeXt's own code",
        r"((?:.+\.)?)downsample_layers\.0\.0\.weight",
        """
        downsample_layers.0.<n>.*       stem.<n>.*
        downsample_layers.<s>.<n>.*     stages.<s>.downsample.<n>.*
        stages.<s>.<b>.dwconv.*         stages.<s>.blocks.<b>.conv_dw.*
        stages.<s>.<b>.norm.*           stages.<s>.blocks.<b>.norm.*
        stages.<s>.<b>.pwconv<n>.*      stages.<s>.blocks.<b>.mlp.fc<n>.*
        stages.<s>.<b>.grn.gamma        stages.<s>.blocks.<b>.mlp.grn.weight
        stages.<s>.<b>.grn.beta         stages.<s>.blocks.<b>.mlp.grn.bias
        stages.<s>.<b>.gamma            stages.<s>.blocks.<b>.gamma
        norm.*                          head.norm.*
        """,
    ),
    Layout(
        OWN,
        "the names of DINOv2's own code",
        r"((?:.+\.)?)(?:(?<!embeddings\.)register_tokens|blocks\.0\.0\.norm1\.weight|blocks\.0\.mlp\.w12\.weight)",
        """
        register_tokens                 reg_token
        cls_token
        pos_embed
        patch_embed.*
        blocks.<c>.<b>.mlp.w12.*        blocks.<b>.mlp.fc1.*
        blocks.<c>.<b>.mlp.w3.*         blocks.<b>.mlp.fc2.*
        blocks.<b>.mlp.w12.*            blocks.<b>.mlp.fc1.*
        blocks.<b>.mlp.w3.*             blocks.<b>.mlp.fc2.*
        blocks.<c>.<b>.*                blocks.<b>.*
        blocks.*
        norm.*
        """,
    ),
    Layout(
        OWN,
        "the names of DINOv3's own code",
        r"((?:.+\.)?)storage_tokens",
        """
        storage_tokens                  reg_token
        cls_token
        patch_embed.*
        blocks.<b>.norm<n>.*
        blocks.<b>.attn.qkv.weight
        blocks.<b>.attn.q_bias
        blocks.<b>.attn.v_bias
        blocks.<b>.attn.proj.*
        blocks.<b>.ls<n>.gamma          blocks.<b>.gamma_<n>
        blocks.<b>.mlp.w1.*             blocks.<b>.mlp.fc1_g.*
        blocks.<b>.mlp.w2.*             blocks.<b>.mlp.fc1_x.*
        blocks.<b>.mlp.w3.*             blocks.<b>.mlp.fc2.*
        blocks.<b>.mlp.fc<n>.*
        norm.*
        """,
    ),
)
LAYOUTS = (*_TORCHVISION, *_HUGGING_FACE, *_PROJECTS)
