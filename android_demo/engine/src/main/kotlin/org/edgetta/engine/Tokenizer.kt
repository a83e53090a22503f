package org.edgetta.engine

/**
 * Token ids of one prompt.
 *
 * @property ids [T], the last one being end of sentence.
 * @property dropped tokens cut off because the prompt was too long for the model.
 * @property text the prompt after normalisation.
 * @property inBytes tokens, also among those cut off, that are single bytes of characters without a token of their own.
 */
class TokenizedPrompt(val ids: LongArray, val dropped: Int, val text: String, val inBytes: Int) {
    /** What a caller should know of the prompt, each a line. */
    val warnings: List<String>
        get() = buildList {
            if (dropped > 0) {
                add("the prompt is too long: its last $dropped tokens were left out (limit ${ids.size})")
            }
            if (2 * inBytes > ids.size - 1 + dropped) {
                add(
                    "most of the prompt is in characters that the model does not know: describe the sound in English",
                )
            }
        }
}

/**
 * SentencePiece model of the unigram kind with the length policy of one bundle.
 *
 * @param model serialised SentencePiece model.
 * @property maxTokens longest sequence, end of sentence included.
 * @throws BundleException the model cannot be read, or is of a kind that is not supported.
 */
class Tokenizer(model: ByteArray, val maxTokens: Int) {
    private val model: SentencePieceModel
    private val escaping: SpaceEscaping
    private val search: UnigramSearch

    init {
        try {
            this.model = SentencePieceModel.read(model)
            search = UnigramSearch(this.model)
        } catch (error: IllegalArgumentException) {
            throw BundleException("tokenizer.model: not a SentencePiece model (${error.message})", error)
        }
        escaping = SpaceEscaping(this.model)
    }

    /** Number of pieces. */
    val vocabularySize: Int get() = model.pieces.size

    /** Id of the end of sentence. */
    val endId: Int get() = model.endId

    /**
     * Tokenize a prompt; what does not fit is cut at the end and counted.
     *
     * @throws RequestException see [Prompt.normalise].
     * @throws BundleException the model is damaged in a way that shows only now.
     */
    fun encode(prompt: String): TokenizedPrompt {
        val text = Prompt.normalise(prompt)
        val pieces = try {
            ids(escaping.apply(text))
        } catch (error: IllegalArgumentException) {
            throw BundleException("tokenizer.model: cannot encode a prompt (${error.message})", error)
        }
        val kept = pieces.take(maxTokens - 1)
        val ids = LongArray(kept.size + 1) { (if (it < kept.size) kept[it] else model.endId).toLong() }
        val bytes = model.byteIds?.toSet().orEmpty()
        return TokenizedPrompt(ids, pieces.size - kept.size, text, pieces.count { it in bytes })
    }

    private fun ids(text: String): List<Int> {
        val ids = ArrayList<Int>()
        var afterUnknown = false
        for (match in search.segment(text)) {
            val unknown = match.id == model.unknownId
            val spelling = model.byteIds
            if (unknown && spelling != null) {
                match.text.toByteArray(Charsets.UTF_8).forEach { ids.add(spelling[it.toInt() and 0xFF]) }
            } else if (!unknown || !afterUnknown) {
                // A run of unknown characters is one unknown piece.
                ids.add(match.id)
            }
            afterUnknown = unknown
        }
        return ids
    }
}
