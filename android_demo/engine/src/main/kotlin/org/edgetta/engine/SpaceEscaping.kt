package org.edgetta.engine

/** The mark that stands for a space in pieces. */
internal const val SPACE_MARK = '\u2581'

/** Text as SentencePiece searches it: rules of normalisation applied, spaces tidied up, marked and put in front. */
internal class SpaceEscaping(private val model: SentencePieceModel) {
    /** The text with the model's own rules; empty if nothing but spaces is left. */
    fun apply(text: String): String {
        val segments = model.characterMap?.segments(text) ?: characters(text)
        val first = if (model.removeExtraSpaces) segments.indexOfFirst { it != " " } else 0
        if (first < 0 || segments.isEmpty()) return ""
        val space = if (model.escapeSpaces) SPACE_MARK else ' '
        val escaped = StringBuilder()
        if (model.addDummyPrefix && !model.spaceAsSuffix) escaped.append(space)
        var afterSpace = model.removeExtraSpaces
        for (segment in segments.subList(first, segments.size)) {
            val rest = if (afterSpace) segment.trimStart(' ') else segment
            if (rest.isNotEmpty()) {
                escaped.append(if (model.escapeSpaces) rest.replace(' ', SPACE_MARK) else rest)
                afterSpace = model.removeExtraSpaces && rest.endsWith(' ')
            }
        }
        if (model.removeExtraSpaces) escaped.setLength(escaped.trimEnd(space).length)
        if (model.addDummyPrefix && model.spaceAsSuffix) escaped.append(space)
        return escaped.toString()
    }

    private fun characters(text: String): List<String> {
        val characters = ArrayList<String>(text.length)
        var index = 0
        while (index < text.length) {
            val size = Character.charCount(text.codePointAt(index))
            characters.add(text.substring(index, index + size))
            index += size
        }
        return characters
    }
}
