package org.edgetta.engine

/**
 * One sound.
 *
 * @property samples [channels * frames] in -1 to 1, channel by channel.
 * @property channels 1 mono, 2 stereo.
 * @property sampleRate Hz.
 * @property timings how long each stage took.
 * @property warnings what the caller should know: tokens left out, level reduced, silence.
 */
class Result(
    val samples: FloatArray,
    val channels: Int,
    val sampleRate: Int,
    val timings: Timings,
    val warnings: List<String>,
) {
    /** Samples a channel. */
    val frames: Int get() = samples.size / channels

    /** Duration in seconds. */
    val seconds: Double get() = frames.toDouble() / sampleRate

    /** Time taken per second of sound. */
    val realTimeFactor: Double get() = timings.totalMs / 1000 / seconds
}
