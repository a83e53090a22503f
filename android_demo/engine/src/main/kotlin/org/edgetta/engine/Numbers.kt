package org.edgetta.engine

import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode

/** Numbers in messages, written as C and Python write them with "%g". */
internal object Numbers {
    /** At most [digits] significant digits, no zeros at the end: 5, 0.25, 1e+10. */
    fun general(value: Double, digits: Int = 6): String {
        if (value.isNaN()) return "nan"
        if (value.isInfinite()) return if (value > 0) "inf" else "-inf"
        if (value == 0.0) return if (1 / value < 0) "-0" else "0"
        val rounded = BigDecimal(value).round(MathContext(digits, RoundingMode.HALF_EVEN))
        val exponent = rounded.precision() - rounded.scale() - 1
        if (exponent in -4 until digits) return plain(rounded)
        val mantissa = plain(rounded.movePointLeft(exponent))
        val size = Math.abs(exponent).toString().padStart(2, '0')
        return "${mantissa}e${if (exponent < 0) '-' else '+'}$size"
    }

    /** With a sign and one digit behind the point: +1.5, -20.0. */
    fun signedTenths(value: Double): String {
        val text = BigDecimal(value).setScale(1, RoundingMode.HALF_EVEN).toPlainString()
        return if (text.startsWith("-")) text else "+$text"
    }

    private fun plain(value: BigDecimal): String {
        val text = value.toPlainString()
        return if ('.' in text) text.trimEnd('0').trimEnd('.') else text
    }
}
