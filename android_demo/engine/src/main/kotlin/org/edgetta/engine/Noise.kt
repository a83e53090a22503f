package org.edgetta.engine

/**
 * Portable noise: the same seed gives the same values in every language (docs/formats/noise.md).
 *
 * Bits come from Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011);
 * pairs of words become normals by Box-Muller in double precision, rounded once to float. The functions of
 * [StrictMath] are the same on every machine.
 */
object Noise {
    private const val FIRST_MULTIPLIER = 0xD2511F53L
    private const val SECOND_MULTIPLIER = 0xCD9E8D57L
    private const val FIRST_WEYL = 0x9E3779B9L
    private const val SECOND_WEYL = 0xBB67AE85L
    private const val LOW = 0xFFFFFFFFL

    /**
     * Standard normal values as a function of seed, stream and position alone; longer arrays start with shorter ones.
     *
     * @param seed 0 to 2^63 - 1; the key of the generator.
     * @param count how many values, at least 0.
     * @param stream independent sequences of one seed, 0 to 2^63 - 1.
     * @throws RequestException an argument is negative.
     */
    fun gaussian(seed: Long, count: Int, stream: Long = 0): FloatArray {
        requireWord("seed", seed)
        requireWord("stream", stream)
        if (count < 0) throw RequestException("noise of $count values: sizes must not be negative")
        val values = FloatArray(count)
        val words = LongArray(4)
        for (start in 0 until count step 4) {
            val block = (start / 4).toLong()
            words[0] = block and LOW
            words[1] = block ushr 32
            words[2] = stream and LOW
            words[3] = stream ushr 32
            philox(words, seed and LOW, seed ushr 32)
            for (pair in 0 until 4 step 2) {
                val radius = Math.sqrt(-2.0 * StrictMath.log(uniform(words[pair])))
                val angle = 2.0 * Math.PI * uniform(words[pair + 1])
                val place = start + pair
                if (place < count) values[place] = (radius * StrictMath.cos(angle)).toFloat()
                if (place + 1 < count) values[place + 1] = (radius * StrictMath.sin(angle)).toFloat()
            }
        }
        return values
    }

    /** Ten rounds of Philox in place on a counter of four 32-bit words. */
    internal fun philox(words: LongArray, firstKey: Long, secondKey: Long) {
        var k0 = firstKey
        var k1 = secondKey
        repeat(10) {
            // Products of 32-bit words fill 64 bits; a signed Long holds the same bits.
            val first = FIRST_MULTIPLIER * words[0]
            val second = SECOND_MULTIPLIER * words[2]
            words[0] = (second ushr 32) xor words[1] xor k0
            words[1] = second and LOW
            words[2] = (first ushr 32) xor words[3] xor k1
            words[3] = first and LOW
            k0 = (k0 + FIRST_WEYL) and LOW
            k1 = (k1 + SECOND_WEYL) and LOW
        }
    }

    private fun uniform(word: Long): Double = (word.toDouble() + 0.5) / 4294967296.0

    private fun requireWord(name: String, value: Long) {
        if (value < 0) throw RequestException("$name $value is out of range: allowed are 0 to ${Long.MAX_VALUE}")
    }
}
