package org.edgetta.engine

import java.math.BigInteger

/**
 * A strict reader of JSON (RFC 8259): no duplicate keys, no NaN, no text after the value, bounded depth.
 *
 * Values are Map<String, Any?>, List<Any?>, String, Boolean, null; whole numbers are Long, or BigInteger where a Long
 * ends; other numbers are Double.
 */
internal class JsonReader private constructor(private val text: String, private val maxDepth: Int) {
    private var position = 0

    companion object {
        /**
         * The value that a text holds.
         *
         * @param maxDepth deepest nesting of objects and arrays.
         * @throws IllegalArgumentException says what is wrong and where.
         */
        fun parse(text: String, maxDepth: Int = 8): Any? {
            val reader = JsonReader(text, maxDepth)
            reader.skipSpace()
            val value = reader.value(0)
            reader.skipSpace()
            if (reader.position < text.length) reader.fail("text after the value")
            return value
        }
    }

    private fun fail(reason: String): Nothing = throw IllegalArgumentException("$reason at character $position")

    private fun skipSpace() {
        while (position < text.length && text[position] in " \t\n\r") position++
    }

    private fun peek(): Char = if (position < text.length) text[position] else fail("ends too early")

    private fun expect(wanted: Char) {
        if (peek() != wanted) fail("'$wanted' expected")
        position++
    }

    private fun value(depth: Int): Any? = when (val first = peek()) {
        '{' -> objectAt(depth + 1)
        '[' -> arrayAt(depth + 1)
        '"' -> string()
        't' -> word("true", true)
        'f' -> word("false", false)
        'n' -> word("null", null)
        else -> if (first == '-' || first in '0'..'9') number() else fail("a value expected")
    }

    private fun <T> word(written: String, meant: T): T {
        if (!text.startsWith(written, position)) fail("a value expected")
        position += written.length
        return meant
    }

    private fun enter(depth: Int) {
        if (depth > maxDepth) throw IllegalArgumentException("nested deeper than $maxDepth")
        position++
        skipSpace()
    }

    private fun objectAt(depth: Int): Map<String, Any?> {
        enter(depth)
        val fields = LinkedHashMap<String, Any?>()
        if (peek() == '}') {
            position++
            return fields
        }
        while (true) {
            if (peek() != '"') fail("a key expected")
            val key = string()
            skipSpace()
            expect(':')
            skipSpace()
            val value = value(depth)
            if (fields.containsKey(key)) fail("a key appears twice")
            fields[key] = value
            if (endsAfterItem('}')) return fields
        }
    }

    private fun arrayAt(depth: Int): List<Any?> {
        enter(depth)
        val items = ArrayList<Any?>()
        if (peek() == ']') {
            position++
            return items
        }
        while (true) {
            items.add(value(depth))
            if (endsAfterItem(']')) return items
        }
    }

    private fun endsAfterItem(end: Char): Boolean {
        skipSpace()
        if (peek() == end) {
            position++
            return true
        }
        expect(',')
        skipSpace()
        return false
    }

    private fun string(): String {
        position++
        val found = StringBuilder()
        while (true) {
            val next = peek()
            position++
            when {
                next == '"' -> return found.toString()
                next == '\\' -> found.append(escape())
                next < ' ' -> fail("a control character inside a string")
                else -> found.append(next)
            }
        }
    }

    private fun escape(): Char {
        val kind = peek()
        position++
        return when (kind) {
            '"', '\\', '/' -> kind
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                if (position + 4 > text.length) fail("ends too early")
                val digits = text.substring(position, position + 4)
                if (digits.any { it !in '0'..'9' && it !in 'a'..'f' && it !in 'A'..'F' }) fail("four digits expected")
                position += 4
                digits.toInt(16).toChar()
            }
            else -> fail("an unknown escape")
        }
    }

    private fun digits() {
        if (peek() !in '0'..'9') fail("a digit expected")
        while (position < text.length && text[position] in '0'..'9') position++
    }

    private fun number(): Number {
        val start = position
        if (peek() == '-') position++
        if (peek() == '0') position++ else digits()
        var whole = true
        if (position < text.length && text[position] == '.') {
            whole = false
            position++
            digits()
        }
        if (position < text.length && text[position] in "eE") {
            whole = false
            position++
            if (peek() in "+-") position++
            digits()
        }
        val written = text.substring(start, position)
        if (whole && written.length > MAX_DIGITS) fail("too long a number")
        if (whole) return written.toLongOrNull() ?: BigInteger(written)
        val number = written.toDouble()
        if (number.isInfinite()) fail("a number is not finite")
        return number
    }
}

/** Longest whole number that is read; reading takes time in the square of it. */
private const val MAX_DIGITS = 4300
