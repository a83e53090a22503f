package org.edgetta.engine

/**
 * What the text encoder makes of a prompt.
 *
 * @property tokens features, [[count], width], row by row.
 * @property count number of tokens, end of sentence included.
 * @property pooled sentence vector, [width], of the same width.
 */
class TextFeatures(val tokens: FloatArray, val count: Int, val pooled: FloatArray)

/**
 * Three stages of one model, batch 1. Calls may come from any thread, one at a time.
 *
 * Whatever a stage throws that is no [EdgeTtaException] becomes a [BackendException] that names the stage.
 */
interface Backend : AutoCloseable {
    /** Name by which the backend is known: "ort", "executorch". */
    val name: String

    /** Precision of the variant: "fp32", "fp16", "int8" or "int4". */
    val precision: String

    /** Threads a stage may use; 0 where the system decides. */
    val threads: Int

    /** Token features and sentence vector of ids, [T]. */
    fun textEncoder(ids: LongArray): TextFeatures

    /**
     * Average velocity of a latent over the interval [time - duration, time].
     *
     * @param latent [frames, channels], row by row; not to be changed.
     * @param time 1 is noise, 0 is data.
     * @param duration length of the interval.
     * @param seconds duration of the sound.
     * @return [frames, channels], row by row.
     */
    fun generator(
        latent: FloatArray,
        frames: Int,
        time: Float,
        duration: Float,
        text: TextFeatures,
        seconds: Float,
        guidance: Float,
    ): FloatArray

    /**
     * Waveform of a standardised latent.
     *
     * @param latent [frames, channels], row by row; not to be changed.
     * @return [audio channels, frames * hop], channel by channel.
     */
    fun decoder(latent: FloatArray, frames: Int): FloatArray
}
