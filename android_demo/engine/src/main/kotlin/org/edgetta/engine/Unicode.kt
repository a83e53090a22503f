package org.edgetta.engine

/** What Java's text lacks: surrogates found, Python's idea of white space, letters and lower case, safe messages. */
internal object Unicode {
    private val SPACES = setOf(0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
    private val LETTERS_AND_NUMBERS = setOf(
        Character.UPPERCASE_LETTER, Character.LOWERCASE_LETTER, Character.TITLECASE_LETTER,
        Character.MODIFIER_LETTER, Character.OTHER_LETTER,
        Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER,
    ).map { it.toInt() }.toSet()
    private val IGNORED_BY_CASE = setOf(
        Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.FORMAT,
        Character.MODIFIER_LETTER, Character.MODIFIER_SYMBOL,
    ).map { it.toInt() }.toSet()

    /** Apostrophes, full stops and colons within words: Word_Break MidLetter, MidNumLet and Single_Quote. */
    private val WITHIN_WORDS = setOf(
        0x27, 0x2E, 0x3A, 0xB7, 0x387, 0x55F, 0x5F4, 0x2018, 0x2019, 0x2024, 0x2027,
        0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A,
    )
    private const val CAPITAL_SIGMA = 0x3A3
    private const val SMALL_SIGMA = 0x3C3
    private const val FINAL_SIGMA = 0x3C2
    private const val CAPITAL_I_WITH_DOT = 0x130
    private const val DOT_ABOVE = 0x307

    /** Whether half of a pair of surrogates stands alone: such text has no UTF-8 form. */
    fun hasLoneSurrogate(text: String): Boolean {
        var index = 0
        while (index < text.length) {
            val point = text.codePointAt(index)
            if (point in 0xD800..0xDFFF) return true
            index += Character.charCount(point)
        }
        return false
    }

    /** Length of valid text in UTF-8. */
    fun utf8Length(text: String): Int {
        var length = 0
        for (character in text) {
            length += when {
                character.code < 0x80 -> 1
                character.code < 0x800 -> 2
                character.isSurrogate() -> 2 // Four for the pair.
                else -> 3
            }
        }
        return length
    }

    /** White space as Python's str.isspace has it. */
    fun isSpace(point: Int): Boolean =
        point in 0x09..0x0D || point in 0x1C..0x1F || point in 0x2000..0x200A || point in SPACES

    /** Letters and numbers of every script, as Python's str.isalnum has them. */
    fun isLetterOrNumber(point: Int): Boolean = Character.getType(point) in LETTERS_AND_NUMBERS

    /** Control and format characters: zero width, text direction, soft hyphen. */
    fun isInvisible(point: Int): Boolean {
        val type = Character.getType(point)
        return type == Character.CONTROL.toInt() || type == Character.FORMAT.toInt()
    }

    /**
     * Lower case of every locale (Unicode 14, section 3.13): a sigma at the end of a word has a form of its own.
     *
     * Java's own method finds the ends of words in another way than Python's.
     */
    fun lowerCase(text: String): String {
        val points = text.codePoints().toArray()
        val lower = StringBuilder(text.length)
        points.forEachIndexed { index, point ->
            when (point) {
                CAPITAL_SIGMA -> lower.appendCodePoint(if (endsWord(points, index)) FINAL_SIGMA else SMALL_SIGMA)
                CAPITAL_I_WITH_DOT -> lower.append('i').appendCodePoint(DOT_ABOVE)
                else -> lower.appendCodePoint(Character.toLowerCase(point))
            }
        }
        return lower.toString()
    }

    private fun endsWord(points: IntArray, index: Int): Boolean {
        val before = (index - 1 downTo 0).firstOrNull { !isIgnoredByCase(points[it]) }
        val after = (index + 1 until points.size).firstOrNull { !isIgnoredByCase(points[it]) }
        return before != null && isCased(points[before]) && (after == null || !isCased(points[after]))
    }

    private fun isCased(point: Int): Boolean =
        Character.isLowerCase(point) || Character.isUpperCase(point) || Character.isTitleCase(point)

    private fun isIgnoredByCase(point: Int): Boolean =
        Character.getType(point) in IGNORED_BY_CASE || point in WITHIN_WORDS

    /** A message in which a stranger's words may appear: printable characters only, at most 300. */
    fun oneLine(text: String): String {
        val hidden = setOf(CharCategory.CONTROL, CharCategory.FORMAT, CharCategory.SURROGATE)
        val line = text.map { if (it.category in hidden) '?' else it }.joinToString("")
        return if (line.length <= 300) line else line.take(299) + "…"
    }
}
