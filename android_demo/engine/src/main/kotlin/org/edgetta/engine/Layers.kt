package org.edgetta.engine

/**
 * One sound of a prompt.
 *
 * @property prompt what it is; as it was given where it is the only one, else normalised.
 * @property levelDb how much louder than the others.
 */
data class Layer(val prompt: String, val levelDb: Double = 0.0)

/** Several sounds in one prompt: "rain on a tin roof + distant thunder (-6 dB)" is two, made apart and mixed. */
internal object Layers {
    private const val MAX_LAYERS = 4
    private const val MAX_LEVEL_DB = 40.0

    /** A level below this (-100 dBFS) is that of nothing: it is not brought up to the others'. */
    private const val INAUDIBLE = 1e-5

    private val LEVEL = Regex("(?:(.*\\S) )?\\(([+\\-\\u2212]?[0-9]{1,3}(?:\\.[0-9]{1,3})?) ?db\\)")

    /**
     * The sounds that a prompt names, in order; one where no "+" stands between words.
     *
     * @throws RequestException [Prompt.normalise] refuses the prompt, a part of it is empty, there are more than four
     *     parts, or a level is out of range.
     */
    fun of(prompt: String): List<Layer> {
        val parts = arrayListOf(ArrayList<String>())
        for (word in Prompt.normalise(prompt).split(' ')) {
            if (word == "+") parts.add(ArrayList()) else parts.last().add(word)
        }
        if (parts.size == 1) return listOf(Layer(prompt))
        if (parts.size > MAX_LAYERS) {
            throw RequestException("prompt names ${parts.size} sounds; at most $MAX_LAYERS are mixed")
        }
        return parts.map { layer(it.joinToString(" ")) }
    }

    private fun layer(part: String): Layer {
        val match = LEVEL.matchEntire(part)
        if (part.isEmpty() || (match != null && match.groups[1] == null)) {
            throw RequestException("prompt has no sound on one side of a '+'; describe one on both")
        }
        if (match == null) return Layer(Prompt.normalise(part))
        val level = match.groupValues[2].replace('\u2212', '-').toDouble()
        if (Math.abs(level) > MAX_LEVEL_DB) {
            val limit = Numbers.general(MAX_LEVEL_DB)
            val range = "allowed are -$limit to $limit dB"
            throw RequestException("level ${Numbers.general(level)} dB is out of range: $range")
        }
        return Layer(Prompt.normalise(match.groupValues[1]), level)
    }

    /**
     * Sum of sounds at equal level, but for what is asked of each; one sound stays as it is.
     *
     * The level of a sound is the deviation of its samples from their mean. All are brought to the root mean square of
     * the levels; inaudible ones stay as they are. Levels and factors are rounded to float, so that another order of
     * summation gives the same samples.
     *
     * @param waveforms one a layer, all of one length.
     * @param layers as many.
     */
    fun mix(waveforms: List<FloatArray>, layers: List<Layer>): FloatArray {
        if (waveforms.size == 1) return waveforms[0]
        val levels = waveforms.map { deviation(it).toFloat().toDouble() }
        val audible = levels.filter { it >= INAUDIBLE }
        val common = Math.sqrt(audible.fold(0.0) { sum, level -> sum + level * level } / maxOf(1, audible.size))
        val mixture = DoubleArray(waveforms[0].size)
        for ((number, waveform) in waveforms.withIndex()) {
            var factor = StrictMath.pow(10.0, layers[number].levelDb / 20)
            if (levels[number] >= INAUDIBLE) factor *= common / levels[number]
            val rounded = factor.toFloat().toDouble()
            for (index in mixture.indices) mixture[index] += rounded * waveform[index]
        }
        return FloatArray(mixture.size) { mixture[it].toFloat() }
    }

    private fun deviation(waveform: FloatArray): Double {
        var sum = 0.0
        for (sample in waveform) sum += sample
        val mean = sum / waveform.size
        var squares = 0.0
        for (sample in waveform) squares += (sample - mean) * (sample - mean)
        return Math.sqrt(squares / waveform.size)
    }
}
