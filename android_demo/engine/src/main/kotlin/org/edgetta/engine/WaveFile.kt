package org.edgetta.engine

/** WAV files of 16-bit PCM; equal samples give equal bytes, the same as the Python package writes. */
object WaveFile {
    private const val HEADER_BYTES = 44
    private const val FORMAT_BYTES = 16
    private const val PCM = 1
    private const val BYTES_PER_SAMPLE = 2

    /** The sound as a file: samples rounded to even, 1.0 becomes 32767, what is beyond is clipped. */
    fun encode(result: Result): ByteArray = encode(result.samples, result.channels, result.sampleRate)

    /**
     * Samples as a file.
     *
     * @param samples [channels, frames], channel by channel.
     * @param sampleRate Hz.
     */
    fun encode(samples: FloatArray, channels: Int, sampleRate: Int): ByteArray {
        require(channels >= 1 && samples.size % channels == 0) { "${samples.size} samples in $channels channels" }
        val dataBytes = Math.multiplyExact(samples.size, BYTES_PER_SAMPLE)
        val file = LittleEndian(Math.addExact(HEADER_BYTES, dataBytes))
        file.name("RIFF")
        file.number(HEADER_BYTES - 8 + dataBytes, 4)
        file.name("WAVE")
        file.name("fmt ")
        file.number(FORMAT_BYTES, 4)
        file.number(PCM, 2)
        file.number(channels, 2)
        file.number(sampleRate, 4)
        file.number(sampleRate * channels * BYTES_PER_SAMPLE, 4)
        file.number(channels * BYTES_PER_SAMPLE, 2)
        file.number(8 * BYTES_PER_SAMPLE, 2)
        file.name("data")
        file.number(dataBytes, 4)
        val frames = samples.size / channels
        for (frame in 0 until frames) {
            for (channel in 0 until channels) file.number(toInteger(samples[channel * frames + frame]), 2)
        }
        return file.bytes
    }

    private fun toInteger(sample: Float): Int =
        Math.rint((sample * 32767f).toDouble()).coerceIn(-32768.0, 32767.0).toInt()

    private class LittleEndian(size: Int) {
        val bytes = ByteArray(size)
        private var position = 0

        fun name(text: String) {
            for (character in text) bytes[position++] = character.code.toByte()
        }

        fun number(value: Int, size: Int) {
            for (index in 0 until size) bytes[position++] = (value shr (8 * index)).toByte()
        }
    }
}
