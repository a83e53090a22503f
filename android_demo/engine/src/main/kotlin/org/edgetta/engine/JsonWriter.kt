package org.edgetta.engine

import java.math.BigDecimal
import java.math.BigInteger
import java.math.MathContext
import java.math.RoundingMode

/**
 * JSON in the one form that manifests and their digests have: sorted keys, no spaces, ASCII, shortest numbers.
 *
 * It is the form of Python's json.dumps(value, sort_keys=True, separators=(",", ":")), byte for byte.
 */
internal object JsonWriter {
    private val ROUNDINGS = listOf(RoundingMode.HALF_EVEN, RoundingMode.UP, RoundingMode.DOWN)

    /**
     * The canonical text of a value as [JsonReader] makes them; Int and Float are taken as well.
     *
     * @throws IllegalArgumentException a number is not finite, or a type has no form in JSON.
     */
    fun canonical(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

    private fun write(value: Any?, text: StringBuilder) {
        when (value) {
            null -> text.append("null")
            is Boolean, is Int, is Long, is BigInteger -> text.append(value)
            is Float -> text.append(number(value.toDouble()))
            is Double -> text.append(number(value))
            is String -> quote(value, text)
            is List<*> -> {
                text.append('[')
                value.forEachIndexed { index, item ->
                    if (index > 0) text.append(',')
                    write(item, text)
                }
                text.append(']')
            }
            is Map<*, *> -> {
                text.append('{')
                val keys = value.keys.map { it as String }.sortedWith(CODE_POINTS)
                keys.forEachIndexed { index, key ->
                    if (index > 0) text.append(',')
                    quote(key, text)
                    text.append(':')
                    write(value[key], text)
                }
                text.append('}')
            }
            else -> throw IllegalArgumentException("${value.javaClass.simpleName} has no form in JSON")
        }
    }

    private fun quote(value: String, text: StringBuilder) {
        text.append('"')
        for (character in value) {
            when (character) {
                '"' -> text.append("\\\"")
                '\\' -> text.append("\\\\")
                '\b' -> text.append("\\b")
                '\u000c' -> text.append("\\f")
                '\n' -> text.append("\\n")
                '\r' -> text.append("\\r")
                '\t' -> text.append("\\t")
                in ' '..'~' -> text.append(character)
                else -> text.append("\\u").append(character.code.toString(16).padStart(4, '0'))
            }
        }
        text.append('"')
    }

    /** Shortest digits that read back as the same number, laid out as Python does: 12.0, 1e-05, 1e+16. */
    internal fun number(value: Double): String {
        require(!value.isNaN() && !value.isInfinite()) { "a number is not finite" }
        if (value == 0.0) return if (1 / value < 0) "-0.0" else "0.0"
        val exact = BigDecimal(value)
        // Of decimals of p digits the nearest first; the first that reads back is the shortest. Above a power of two
        // numbers are further apart than below, so that the next decimal may read back where the nearest does not.
        val shortest = (1..17).firstNotNullOf { precision ->
            ROUNDINGS.map { exact.round(MathContext(precision, it)) }.firstOrNull { it.toDouble() == value }
        }
        val digits = shortest.unscaledValue().abs().toString().trimEnd('0').ifEmpty { "0" }
        val exponent = shortest.precision() - shortest.scale() - 1
        val sign = if (value < 0) "-" else ""
        return sign + when {
            exponent < -4 || exponent >= 16 -> scientific(digits, exponent)
            exponent < 0 -> "0." + "0".repeat(-exponent - 1) + digits
            digits.length <= exponent + 1 -> digits.padEnd(exponent + 1, '0') + ".0"
            else -> digits.substring(0, exponent + 1) + "." + digits.substring(exponent + 1)
        }
    }

    private fun scientific(digits: String, exponent: Int): String {
        val mantissa = if (digits.length == 1) digits else "${digits[0]}.${digits.substring(1)}"
        val size = Math.abs(exponent).toString().padStart(2, '0')
        return "${mantissa}e${if (exponent < 0) '-' else '+'}$size"
    }
}

/** Order of texts by code points, as Python has it; Java's own order puts surrogates before U+E000. */
private val CODE_POINTS = Comparator<String> { first, second ->
    var index = 0
    while (index < first.length && index < second.length && first[index] == second[index]) index++
    if (index == first.length || index == second.length) {
        first.length - second.length
    } else {
        val left = first[index]
        val right = second[index]
        // Equal up to here, so a surrogate stands for a character beyond U+FFFF.
        if (left.isSurrogate() != right.isSurrogate()) {
            if (left.isSurrogate()) 1 else -1
        } else {
            left.compareTo(right)
        }
    }
}
