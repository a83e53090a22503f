package org.edgetta.engine

/**
 * One request. What no bundle is needed for is checked here; the rest when it is served.
 *
 * @property prompt description of the sound, or of up to four that are made apart and mixed: "rain + thunder (-6 dB)".
 * @property seconds duration; the result has exactly round(seconds * sample rate) frames.
 * @property seed 0 to 2^63 - 1; the same request on the same bundle, backend and machine gives the same samples.
 * @property steps network steps, 1 to 8. The shipped model is made for one: more cost more and change little.
 * @property guidance how strictly to follow the prompt, at least 0; null takes the bundle's default.
 * @throws RequestException names field, value and allowed range.
 */
class GenerationRequest @JvmOverloads @Throws(RequestException::class) constructor(
    val prompt: String,
    val seconds: Double = 5.0,
    val seed: Long = 0,
    val steps: Int = 1,
    val guidance: Double? = null,
) {
    /** The sounds that the prompt names. */
    val layers: List<Layer> = Layers.of(prompt)

    init {
        requireFinite("seconds", seconds)
        if (seconds <= 0) refuse("seconds", Numbers.general(seconds), "it must be above 0")
        if (guidance != null) {
            requireFinite("guidance", guidance)
            if (guidance < 0) refuse("guidance", Numbers.general(guidance), "it must be at least 0")
        }
        if (seed < 0) refuse("seed", seed, "allowed are 0 to ${Long.MAX_VALUE}")
        if (steps !in 1..MAX_STEPS) refuse("steps", steps, "allowed are 1 to $MAX_STEPS")
    }

    /**
     * Check the request against what a bundle makes.
     *
     * @throws RequestException names field, value and the bundle's range.
     */
    internal fun checkLimits(audio: AudioSpec, limits: Generation) {
        if (seconds !in audio.minSeconds..audio.maxSeconds) {
            val range = "${Numbers.general(audio.minSeconds)} to ${Numbers.general(audio.maxSeconds)} s"
            refuse("seconds", Numbers.general(seconds), "this bundle makes $range")
        }
        if (steps > limits.maxSteps) refuse("steps", steps, "this bundle takes 1 to ${limits.maxSteps}")
        if (guidance != null && guidance !in limits.minGuidance..limits.maxGuidance) {
            val range = "${Numbers.general(limits.minGuidance)} to ${Numbers.general(limits.maxGuidance)}"
            refuse("guidance", Numbers.general(guidance), "this bundle takes $range")
        }
    }

    private fun requireFinite(name: String, value: Double) {
        if (value.isNaN() || value.isInfinite()) {
            throw RequestException("$name must be a finite number, got ${Numbers.general(value)}")
        }
    }

    private fun refuse(name: String, value: Any, reason: String): Nothing =
        throw RequestException("$name $value is out of range: $reason")

    companion object {
        /** Most network steps of any request. */
        const val MAX_STEPS = 8
    }
}
