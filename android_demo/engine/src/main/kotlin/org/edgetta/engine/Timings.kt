package org.edgetta.engine

/**
 * Milliseconds by stage on a monotonic clock; the stages' sum is at most [totalMs].
 *
 * @property textEncoderMs ids to token features.
 * @property generatorMs noise and all network steps.
 * @property decoderMs latent to finished samples.
 * @property totalMs prompt in to samples out.
 * @property tokenizerMs prompt to ids.
 */
class Timings(
    val textEncoderMs: Double,
    val generatorMs: Double,
    val decoderMs: Double,
    val totalMs: Double,
    val tokenizerMs: Double = 0.0,
)

/** What is timed. */
internal enum class Stage { TOKENIZER, TEXT_ENCODER, GENERATOR, DECODER }

/** Collects the stage times of one sound, from its creation on. */
internal class Stopwatch {
    private val started = System.nanoTime()
    private val nanoseconds = LongArray(Stage.entries.size)

    /** Add the time a block takes to a stage. */
    inline fun <T> time(stage: Stage, block: () -> T): T {
        val begun = System.nanoTime()
        try {
            return block()
        } finally {
            add(stage, System.nanoTime() - begun)
        }
    }

    /** Add a time to a stage. */
    fun add(stage: Stage, taken: Long) {
        nanoseconds[stage.ordinal] += maxOf(0L, taken)
    }

    /** What has been collected. */
    fun timings(): Timings {
        val total = maxOf(System.nanoTime() - started, nanoseconds.sum())
        return Timings(
            textEncoderMs = milliseconds(Stage.TEXT_ENCODER),
            generatorMs = milliseconds(Stage.GENERATOR),
            decoderMs = milliseconds(Stage.DECODER),
            totalMs = total / NANOSECONDS,
            tokenizerMs = milliseconds(Stage.TOKENIZER),
        )
    }

    private fun milliseconds(stage: Stage): Double = nanoseconds[stage.ordinal] / NANOSECONDS

    private companion object {
        const val NANOSECONDS = 1e6
    }
}
