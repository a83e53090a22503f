package org.edgetta.engine

/** The last step to a sound: exact length, no offset, within full scale, no clicks at the ends. */
object Finish {
    /** Raised-cosine fade at both ends, seconds: a sound that is cut anywhere must not click. */
    private const val FADE_SECONDS = 0.005

    /** A peak below this (-80 dBFS) is reported as silence. */
    private const val SILENCE_PEAK = 1e-4

    /** A mean further from zero than this is taken out. */
    private const val MAX_OFFSET = 1e-3

    /** Such a mean is no low rumble any more, it is a fault worth telling. */
    private const val REPORTED_OFFSET = 0.05

    /** Many a sound peaks above full scale and is scaled; from here on it is a fault too. */
    private const val REPORTED_PEAK = 10.0

    /**
     * Samples and what is to be said of them.
     *
     * @property samples [channels, frames] in -1 to 1, channel by channel.
     * @property gain factor that brought the sound within full scale, 1 if none was needed.
     * @property warnings offset, level or silence worth telling.
     */
    class Finished(val samples: FloatArray, val gain: Float, val warnings: List<String>)

    /**
     * Trim, centre, limit and fade a waveform.
     *
     * @param waveform [channels, n], channel by channel, finite, n >= [frames]; not changed.
     * @param channels at least 1.
     * @param frames length of the result in samples a channel, at least 1.
     * @param sampleRate Hz, for the length of the fades.
     */
    fun finish(waveform: FloatArray, channels: Int, frames: Int, sampleRate: Int): Finished {
        val samples = cut(waveform, channels, frames)
        val warnings = ArrayList<String>()
        val offset = centre(samples, channels, frames)
        if (offset > REPORTED_OFFSET) {
            warnings.add("the sound had a constant offset of ${Numbers.general(offset, 2)}, which was removed")
        }
        val peak = samples.maxOf { Math.abs(it) }
        if (peak > 1) for (index in samples.indices) samples[index] /= peak
        if (peak > REPORTED_PEAK) {
            val level = Numbers.signedTenths(20 * StrictMath.log10(peak.toDouble()))
            warnings.add("the sound peaked at $level dBFS and was scaled down to fit")
        }
        if (peak < SILENCE_PEAK) warnings.add("the sound is silent")
        fade(samples, channels, frames, sampleRate)
        return Finished(samples, if (peak > 1) 1 / peak else 1f, warnings)
    }

    /** The first [frames] samples of every channel of a waveform, a new array. */
    fun cut(waveform: FloatArray, channels: Int, frames: Int): FloatArray {
        require(channels >= 1 && waveform.size % channels == 0) { "${waveform.size} samples in $channels channels" }
        val length = waveform.size / channels
        require(frames in 1..length) { "$frames frames of $length" }
        val samples = FloatArray(channels * frames)
        for (channel in 0 until channels) {
            System.arraycopy(waveform, channel * length, samples, channel * frames, frames)
        }
        return samples
    }

    /** Take the mean of every channel out if one is far from zero; the largest is returned. */
    private fun centre(samples: FloatArray, channels: Int, frames: Int): Double {
        val means = DoubleArray(channels) { channel ->
            var sum = 0.0
            for (index in channel * frames until (channel + 1) * frames) sum += samples[index]
            sum / frames
        }
        val largest = means.maxOf { Math.abs(it) }
        if (largest > MAX_OFFSET) {
            for (index in samples.indices) samples[index] -= means[index / frames].toFloat()
        }
        return largest
    }

    private fun fade(samples: FloatArray, channels: Int, frames: Int, sampleRate: Int) {
        val length = minOf(Math.rint(FADE_SECONDS * sampleRate).toInt(), frames / 2)
        for (index in 0 until length) {
            val gain = (0.5 - 0.5 * StrictMath.cos(Math.PI * (index + 0.5) / length)).toFloat()
            for (channel in 0 until channels) {
                samples[channel * frames + index] *= gain
                samples[(channel + 1) * frames - 1 - index] *= gain
            }
        }
    }
}
