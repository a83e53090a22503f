package org.edgetta.engine

/**
 * A backend of plain arithmetic that the tests repeat in Python, operation by operation; it fails where it is told.
 *
 * @property gain of the decoder.
 * @property fault stage and kind of a failure: "generator-nan", "decoder-short", "text_encoder-throws" and so on.
 * @property onStage called as a stage begins.
 */
internal class FakeBackend(
    private val audio: AudioSpec,
    private val gain: Float,
    private val fault: String,
    private val onStage: (String) -> Unit = {},
) : Backend {
    override val name = "fake"
    override val precision = "fp32"
    override val threads = 1
    var closed = 0
        private set

    override fun textEncoder(ids: LongArray): TextFeatures {
        onStage("text_encoder")
        val tokens = FloatArray(ids.size * WIDTH) { (ids[it / WIDTH] + it % WIDTH).toFloat() / 1000f }
        val pooled = FloatArray(WIDTH) { (ids.size + it).toFloat() / 16f }
        return TextFeatures(spoiled("text_encoder", tokens), ids.size, pooled)
    }

    override fun generator(
        latent: FloatArray,
        frames: Int,
        time: Float,
        duration: Float,
        text: TextFeatures,
        seconds: Float,
        guidance: Float,
    ): FloatArray {
        onStage("generator")
        val shift = time * 0.25f - duration * 0.125f + seconds * 0.01f + guidance * 0.001f + text.pooled[1]
        val velocity = FloatArray(latent.size) { latent[it] * 0.5f + text.tokens[it % text.tokens.size] + shift }
        return spoiled("generator", velocity)
    }

    override fun decoder(latent: FloatArray, frames: Int): FloatArray {
        onStage("decoder")
        val length = frames * audio.hop
        val waveform = FloatArray(audio.channels * length) {
            val channel = it / length
            val sample = it % length
            latent[sample / audio.hop * audio.latentChannels + (sample + channel) % audio.latentChannels] * gain
        }
        return spoiled("decoder", waveform)
    }

    override fun close() {
        closed++
    }

    private fun spoiled(stage: String, values: FloatArray): FloatArray = when (fault) {
        "$stage-nan" -> values.also { it[it.size / 2] = Float.NaN }
        "$stage-infinite" -> values.also { it[0] = Float.NEGATIVE_INFINITY }
        "$stage-short" -> values.copyOf(values.size / 2)
        "$stage-throws" -> throw IllegalStateException("no such thing\nand more")
        "$stage-memory" -> throw IllegalStateException("std::bad_alloc")
        "$stage-heap" -> throw OutOfMemoryError("heap")
        else -> values
    }

    private companion object {
        const val WIDTH = 8
    }
}
