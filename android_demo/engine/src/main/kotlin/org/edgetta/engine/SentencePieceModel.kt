package org.edgetta.engine

import java.nio.ByteBuffer

/**
 * A SentencePiece model of the unigram kind (Kudo 2018, arXiv 1804.10959) as its file has it, checked.
 *
 * @property pieces texts in the order of their ids; U+2581 marks the beginning of a word.
 * @property scores logarithms of probabilities.
 * @property types kinds of pieces, [NORMAL] and so on.
 * @property unknownId id of what no piece covers.
 * @property endId id of the end of sentence.
 * @property byteIds ids of the 256 bytes, by which unknown characters are spelled; null without byte fallback.
 * @property addDummyPrefix whether text gets a space before its first word.
 * @property removeExtraSpaces whether spaces at the ends and repeated ones are dropped.
 * @property escapeSpaces whether spaces become U+2581.
 * @property spaceAsSuffix whether the space of [addDummyPrefix] comes at the end.
 * @property characterMap compiled rules of normalisation; null for none.
 */
internal class SentencePieceModel private constructor(
    val pieces: Array<String>,
    val scores: FloatArray,
    val types: IntArray,
    val unknownId: Int,
    val endId: Int,
    val byteIds: IntArray?,
    val addDummyPrefix: Boolean,
    val removeExtraSpaces: Boolean,
    val escapeSpaces: Boolean,
    val spaceAsSuffix: Boolean,
    val characterMap: CharacterMap?,
) {
    companion object {
        const val NORMAL = 1
        const val UNKNOWN = 2
        const val CONTROL = 3
        const val USER_DEFINED = 4
        const val UNUSED = 5
        const val BYTE = 6
        private const val UNIGRAM = 1L

        /** Of a vocabulary of 2^20 pieces, the largest that a bundle may have. */
        private const val MAX_FIELDS = 1 shl 23

        /**
         * Read a model.
         *
         * @throws IllegalArgumentException the bytes are no such model; the message says why.
         */
        fun read(data: ByteArray): SentencePieceModel =
            Builder().apply { model(WireReader(ByteBuffer.wrap(data), MAX_FIELDS)) }.build()
    }

    /** Collects the fields of the messages ModelProto, TrainerSpec and NormalizerSpec that matter here. */
    private class Builder {
        private val pieces = ArrayList<String>()
        private val scores = ArrayList<Float>()
        private val types = ArrayList<Int>()
        private var modelType = UNIGRAM
        private var byteFallback = false
        private var spaceAsSuffix = false
        private var endPiece = "</s>"
        private var addDummyPrefix = true
        private var removeExtraSpaces = true
        private var escapeSpaces = true
        private var characterMap = ByteArray(0)

        fun model(fields: WireReader) {
            while (fields.next()) {
                when (fields.field) {
                    1 -> piece(fields.message())
                    2 -> trainer(fields.message())
                    3 -> normalizer(fields.message())
                }
            }
        }

        private fun piece(fields: WireReader) {
            var text = ""
            var score = 0f
            var type = NORMAL
            while (fields.next()) {
                when (fields.field) {
                    1 -> text = fields.text()
                    2 -> score = fields.float()
                    3 -> type = fields.number().toInt()
                }
            }
            require(text.isNotEmpty()) { "a piece is empty" }
            require(!score.isNaN() && !score.isInfinite()) { "the score of a piece is not finite" }
            pieces.add(text)
            scores.add(score)
            types.add(type)
        }

        private fun trainer(fields: WireReader) {
            while (fields.next()) {
                when (fields.field) {
                    3 -> modelType = fields.number()
                    24 -> spaceAsSuffix = fields.flag()
                    35 -> byteFallback = fields.flag()
                    47 -> endPiece = fields.text()
                }
            }
        }

        private fun normalizer(fields: WireReader) {
            while (fields.next()) {
                when (fields.field) {
                    2 -> characterMap = fields.bytes()
                    3 -> addDummyPrefix = fields.flag()
                    4 -> removeExtraSpaces = fields.flag()
                    5 -> escapeSpaces = fields.flag()
                }
            }
        }

        fun build(): SentencePieceModel {
            require(modelType == UNIGRAM) { "not a unigram model" }
            require(pieces.toSet().size == pieces.size) { "a piece appears twice" }
            require(types.all { it in NORMAL..BYTE }) { "a piece of unknown type" }
            require(USER_DEFINED !in types) { "user-defined pieces are not supported" }
            require(types.count { it == UNKNOWN } == 1) { "one unknown piece is expected" }
            val end = pieces.indexOf(endPiece)
            require(end >= 0 && types[end] == CONTROL) { "has no end-of-sentence piece" }
            require(byteFallback == (BYTE in types)) { "byte pieces and byte fallback do not agree" }
            return SentencePieceModel(
                pieces = pieces.toTypedArray(),
                scores = scores.toFloatArray(),
                types = types.toIntArray(),
                unknownId = types.indexOf(UNKNOWN),
                endId = end,
                byteIds = if (byteFallback) byteIds() else null,
                addDummyPrefix = addDummyPrefix,
                removeExtraSpaces = removeExtraSpaces,
                escapeSpaces = escapeSpaces,
                spaceAsSuffix = spaceAsSuffix,
                characterMap = if (characterMap.isEmpty()) null else CharacterMap.read(characterMap),
            )
        }

        private fun byteIds(): IntArray {
            val places = pieces.withIndex().filter { types[it.index] == BYTE }.associate { it.value to it.index }
            return IntArray(256) { byte ->
                val name = "<0x" + byte.toString(16).uppercase().padStart(2, '0') + ">"
                requireNotNull(places[name]) { "the piece $name is missing" }
            }
        }
    }
}
