package org.edgetta.engine

/**
 * One sound.
 *
 * @property samples [channels * frames] in -1 to 1, channel by channel.
 * @property channels 1 mono, 2 stereo.
 * @property sampleRate Hz.
 * @property timings how long each stage took.
 * @property warnings what the caller should know: tokens left out, silence, what points to a fault.
 * @property gain factor by which the sound was made quieter to fit within full scale, 1 if it was not: dividing by it
 *     gives sounds their levels beside each other back.
 * @property request what was asked for.
 * @property guidance what was used: the request's, or the bundle's default.
 */
class Result(
    val samples: FloatArray,
    val channels: Int,
    val sampleRate: Int,
    val timings: Timings,
    val warnings: List<String>,
    val gain: Float,
    val request: GenerationRequest,
    val guidance: Double,
) {
    /** Samples a channel. */
    val frames: Int get() = samples.size / channels

    /** Duration in seconds. */
    val seconds: Double get() = frames.toDouble() / sampleRate

    /** Time taken per second of sound. */
    val realTimeFactor: Double get() = timings.totalMs / 1000 / seconds
}
