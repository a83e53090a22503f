package org.edgetta.engine

/** The generator with text, seconds and guidance bound. */
fun interface Velocity {
    /**
     * Average velocity of a latent over [time - duration, time].
     *
     * @param latent any shape, flat; not to be changed.
     * @return of the same size.
     */
    fun at(latent: FloatArray, time: Double, duration: Double): FloatArray
}

/** From noise to a clean latent along average velocities. Times go from 1 (noise) to 0 (data). */
object Sampler {
    private const val LOWEST_LOG_SNR = -6.0
    private const val HIGHEST_LOG_SNR = 2.0

    /**
     * Walk from noise to data on a uniform grid.
     *
     * Each step is exact for an exact average velocity (Mean Flows, Geng et al. 2025, arXiv 2505.13447, eq. 12):
     * z_r = z_t - (t - r) u(z_t, r, t). One step is x = eps - u(eps, 0, 1).
     *
     * @param noise standard normal, flat.
     * @param steps network evaluations, at least 1.
     * @param beforeStep called with the step's number from 0; may throw to stop.
     * @return a new array of the size of [noise].
     */
    fun walk(velocity: Velocity, noise: FloatArray, steps: Int, beforeStep: (Int) -> Unit = {}): FloatArray {
        require(steps >= 1) { "steps must be at least 1, got $steps" }
        var latent = noise
        for (step in 0 until steps) {
            beforeStep(step)
            val time = 1.0 - step.toDouble() / steps
            val until = 1.0 - (step + 1).toDouble() / steps
            latent = advance(latent, (time - until).toFloat(), velocity.at(latent, time, time - until))
        }
        return latent
    }

    /**
     * Jump to clean data, add fresh noise of the next level, jump again; for models trained by ARC or multi-step DMD2.
     *
     * Each jump is x = z_t - t u(z_t, 0, t), on the log-SNR grid of ARC (Novack et al. 2025, arXiv 2505.08175,
     * section 3); one step is the same as [walk]'s.
     *
     * @param fresh number of the coming step, from 1, to noise of the size of [noise] that differs from step to step.
     */
    fun pingPong(
        velocity: Velocity,
        noise: FloatArray,
        steps: Int,
        fresh: (Int) -> FloatArray,
        beforeStep: (Int) -> Unit = {},
    ): FloatArray {
        val grid = pingPongGrid(steps)
        var latent = noise
        var data = noise
        for (step in 0 until steps) {
            beforeStep(step)
            val now = grid[step]
            val then = grid[step + 1]
            data = advance(latent, now.toFloat(), velocity.at(latent, now, now))
            if (then > 0) latent = mix(data, (1 - then).toFloat(), fresh(step + 1), then.toFloat())
        }
        return data
    }

    /**
     * Times of [pingPong], [steps] + 1 of them from 1 down to 0.
     *
     * Evenly spaced in the logarithm of the signal-to-noise ratio from -6 to 2, with t = sigmoid(-lambda); the first
     * is set to 1 and the last to 0.
     */
    fun pingPongGrid(steps: Int): DoubleArray {
        require(steps >= 1) { "steps must be at least 1, got $steps" }
        val width = HIGHEST_LOG_SNR - LOWEST_LOG_SNR
        return DoubleArray(steps + 1) { step ->
            when (step) {
                0 -> 1.0
                steps -> 0.0
                else -> 1 / (1 + StrictMath.exp(LOWEST_LOG_SNR + width * step / steps))
            }
        }
    }

    private fun advance(latent: FloatArray, duration: Float, velocity: FloatArray): FloatArray =
        FloatArray(latent.size) { latent[it] - duration * velocity[it] }

    private fun mix(data: FloatArray, share: Float, noise: FloatArray, level: Float): FloatArray =
        FloatArray(data.size) { share * data[it] + level * noise[it] }
}
