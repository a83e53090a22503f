package org.edgetta.engine

/**
 * Finds the likeliest segmentation of a text into pieces (Kudo 2018, arXiv 1804.10959, by the algorithm of Viterbi).
 *
 * A character that is no piece of its own may be unknown, at [UNKNOWN_PENALTY] below the least likely piece.
 */
internal class UnigramSearch(private val model: SentencePieceModel) {
    /** Ids of the pieces that take part, in the order of their texts. */
    private val order = model.pieces.indices
        .filter { model.types[it] == SentencePieceModel.NORMAL }
        .sortedBy { model.pieces[it] }
        .toIntArray()
    private val unknownScore: Float

    init {
        require(order.isNotEmpty()) { "has no ordinary pieces" }
        unknownScore = order.minOf { model.scores[it] } - UNKNOWN_PENALTY
    }

    /** A piece of the text, or a character that is unknown. */
    class Match(val id: Int, val text: String)

    /** Pieces that make up the text, in order. */
    fun segment(text: String): List<Match> {
        val ids = IntArray(text.length + 1) { model.unknownId }
        val starts = IntArray(text.length + 1) { -1 }
        val scores = FloatArray(text.length + 1)
        var start = 0
        while (start < text.length) {
            val character = Character.charCount(text.codePointAt(start))
            val before = scores[start]
            var characterIsPiece = false
            forEachPiece(text, start) { id, end ->
                // Summed as float, as SentencePiece does, so that ties fall the same way.
                val score = model.scores[id] + before
                if (starts[end] < 0 || score > scores[end]) {
                    ids[end] = id
                    starts[end] = start
                    scores[end] = score
                }
                if (end == start + character) characterIsPiece = true
            }
            val end = start + character
            val score = unknownScore + before
            if (!characterIsPiece && (starts[end] < 0 || score > scores[end])) {
                ids[end] = model.unknownId
                starts[end] = start
                scores[end] = score
            }
            start = end
        }
        return trace(text, ids, starts)
    }

    private fun trace(text: String, ids: IntArray, starts: IntArray): List<Match> {
        val matches = ArrayList<Match>()
        var end = text.length
        while (end > 0) {
            matches.add(Match(ids[end], text.substring(starts[end], end)))
            end = starts[end]
        }
        matches.reverse()
        return matches
    }

    /** All pieces that begin at a place, shortest first, with their ends; each character narrows a range of [order]. */
    private inline fun forEachPiece(text: String, start: Int, found: (Int, Int) -> Unit) {
        var low = 0
        var high = order.size
        for (end in start + 1..text.length) {
            val depth = end - start - 1
            val character = text[end - 1]
            low = firstFrom(low, high, depth, character)
            high = firstFrom(low, high, depth, character + 1)
            if (low >= high) return
            // The shortest of the range is the prefix itself, if it is a piece.
            if (model.pieces[order[low]].length == depth + 1) {
                found(order[low], end)
                low++
            }
        }
    }

    /** First place in a range whose piece has a character at a depth that is no lower; all pieces reach that deep. */
    private fun firstFrom(from: Int, until: Int, depth: Int, character: Char): Int {
        var low = from
        var high = until
        while (low < high) {
            val middle = (low + high) ushr 1
            if (model.pieces[order[middle]][depth] < character) low = middle + 1 else high = middle
        }
        return low
    }

    private companion object {
        const val UNKNOWN_PENALTY = 10f
    }
}
