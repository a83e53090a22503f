package org.edgetta.demo

import org.edgetta.engine.Result

/** What the app is doing; buttons follow it. */
enum class Phase {
    OPENING,
    READY,
    GENERATING,
    BENCHMARKING,

    /** No model could be opened; nothing can be made. */
    UNUSABLE,
}

/**
 * What a user asks for.
 *
 * @property seconds duration of the sound.
 * @property threads threads a stage may use.
 * @property variant name of one of the bundle's variants.
 */
data class DemoRequest(
    val prompt: String,
    val seconds: Double,
    val seed: Long,
    val steps: Int,
    val threads: Int,
    val variant: String,
)

/**
 * A bundle as far as the screen needs it.
 *
 * @property name name and the beginning of the digest.
 * @property variants variants that run on this device, best first.
 */
data class Model(
    val name: String,
    val variants: List<String>,
    val minSeconds: Double,
    val maxSeconds: Double,
    val maxSteps: Int,
)

/**
 * A finished sound and what was asked for.
 *
 * @property openSeconds time that opening the variant took.
 * @property peakBytes largest resident memory of the process so far.
 */
class Sound(val request: DemoRequest, val result: Result, val openSeconds: Double, val peakBytes: Long)

/**
 * Everything the screen shows. A new object for every change, made on the main thread.
 *
 * @property message one line about what is going on or went wrong.
 * @property failed whether [message] is an error.
 * @property benchmark JSON of the last benchmark.
 */
data class DemoState(
    val phase: Phase = Phase.OPENING,
    val message: String = "",
    val failed: Boolean = false,
    val model: Model? = null,
    val sound: Sound? = null,
    val benchmark: String? = null,
) {
    /** Whether something is being made that can be cancelled. */
    val busy: Boolean
        get() = phase == Phase.GENERATING || phase == Phase.BENCHMARKING
}

/** What came of something that was done. */
sealed class Outcome {
    class Opened(val model: Model) : Outcome()

    class Made(val sound: Sound) : Outcome()

    /** A benchmark: its record, its median and the duration of each sound, both in seconds. */
    class Measured(val json: String, val medianSeconds: Double, val seconds: Double) : Outcome()

    /** One line that can be shown; being cancelled is no error. */
    class Failed(val message: String, val cancelled: Boolean = false) : Outcome()
}
