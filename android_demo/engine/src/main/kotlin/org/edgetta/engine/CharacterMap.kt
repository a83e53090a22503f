package org.edgetta.engine

/**
 * Rules of normalisation as SentencePiece compiles them: a double-array trie (Aoe 1989; the layout is that of
 * Darts-clone) from UTF-8 sequences to places in a table of replacements, each ended by NUL.
 */
internal class CharacterMap private constructor(private val units: IntArray, private val replacements: ByteArray) {
    companion object {
        private const val MASK = 0xFF

        /**
         * Read compiled rules: size of the trie in bytes, trie, replacements.
         *
         * @throws IllegalArgumentException sizes do not fit.
         */
        fun read(data: ByteArray): CharacterMap {
            require(data.size > 4) { "the normalisation rules are cut off" }
            val size = word(data, 0)
            require(size in 4..data.size - 4 && size % 4 == 0) { "the normalisation rules have a wrong size" }
            return CharacterMap(IntArray(size / 4) { word(data, 4 + 4 * it) }, data.copyOfRange(4 + size, data.size))
        }

        private fun word(data: ByteArray, at: Int): Int =
            (0 until 4).fold(0) { word, index -> word or ((data[at + index].toInt() and MASK) shl (8 * index)) }
    }

    /**
     * Replace the longest known sequence at every place; other characters stay.
     *
     * @return the replacements in order, one for each sequence or character; they may be empty.
     * @throws IllegalArgumentException the rules are damaged.
     */
    fun segments(text: String): List<String> {
        val bytes = text.toByteArray(Charsets.UTF_8)
        val segments = ArrayList<String>()
        var position = 0
        while (position < bytes.size) {
            val (length, place) = longest(bytes, position)
            if (length > 0) {
                segments.add(replacement(place))
                position += length
            } else {
                val size = characterLength(bytes[position])
                segments.add(String(bytes, position, size, Charsets.UTF_8))
                position += size
            }
        }
        return segments
    }

    /** Length of the longest known sequence at a place and the place of its replacement; length 0 for none. */
    private fun longest(bytes: ByteArray, from: Int): Pair<Int, Int> {
        var length = 0
        var place = 0
        var node = offset(unit(0))
        for (index in from until bytes.size) {
            val label = bytes[index].toInt() and MASK
            node = node xor label
            val unit = if (node in units.indices) units[node] else break
            // The highest bit marks values, which no label equals.
            if (unit and (MASK or Int.MIN_VALUE) != label) break
            node = node xor offset(unit)
            if (unit ushr 8 and 1 == 1) {
                length = index - from + 1
                place = unit(node) and Int.MAX_VALUE
            }
        }
        return length to place
    }

    private fun unit(node: Int): Int {
        require(node in units.indices) { "the normalisation rules point outside" }
        return units[node]
    }

    private fun offset(unit: Int): Int = (unit ushr 10) shl (unit and (1 shl 9) ushr 6)

    private fun replacement(place: Int): String {
        require(place < replacements.size) { "the normalisation rules point outside" }
        var end = place
        while (end < replacements.size && replacements[end] != 0.toByte()) end++
        return String(replacements, place, end - place, Charsets.UTF_8)
    }

    private fun characterLength(first: Byte): Int = when (val lead = first.toInt() and MASK) {
        in 0x00..0x7F -> 1
        else -> if (lead < 0xE0) 2 else if (lead < 0xF0) 3 else 4
    }
}
