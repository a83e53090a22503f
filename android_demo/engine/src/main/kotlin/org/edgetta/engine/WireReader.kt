package org.edgetta.engine

import java.nio.ByteBuffer

/**
 * Reads the wire format of protocol buffers (protobuf.dev, "Encoding") field by field; nothing is copied before it is
 * asked for, and the fields of one file are counted.
 *
 * Every method throws IllegalArgumentException where the bytes are no message.
 */
internal class WireReader private constructor(
    private val data: ByteBuffer,
    private var position: Int,
    private val end: Int,
    private val budget: Budget,
) {
    /** A reader of a whole file with at most [maxFields] fields and packed numbers. */
    constructor(data: ByteBuffer, maxFields: Int) : this(data, 0, data.limit(), Budget(maxFields))

    private class Budget(private val most: Int) {
        private var spent = 0

        fun spend() {
            spent++
            require(spent <= most) { "more than $most fields" }
        }
    }

    /** Number of the field that was read last. */
    var field = 0
        private set

    /** Bytes of the field's value, 0 for a whole number. */
    var size = 0
        private set
    private var bits = 0L
    private var kind = 0

    /** Whether the field is a whole number. */
    val isNumber: Boolean get() = kind == VARINT

    /** Go to the next field; false at the end. */
    fun next(): Boolean {
        if (position == end) return false
        budget.spend()
        val key = varint()
        require(key ushr 3 in 1L..MAX_FIELD_NUMBER) { "a field has an impossible number" }
        field = (key ushr 3).toInt()
        kind = (key and 7).toInt()
        size = 0
        when (kind) {
            VARINT -> bits = varint()
            FIXED64 -> skip(8)
            FIXED32 -> skip(4)
            BYTES -> skip(varint())
            else -> throw IllegalArgumentException("wire type $kind")
        }
        return true
    }

    /** The field as a whole number. */
    fun number(): Long = bits.also { expect(VARINT) }

    /** The field as true or false. */
    fun flag(): Boolean = number() != 0L

    /** The field as a float. */
    fun float(): Float {
        expect(FIXED32)
        val bits = (1..4).fold(0) { bits, back -> (bits shl 8) or (data[position - back].toInt() and 0xFF) }
        return java.lang.Float.intBitsToFloat(bits)
    }

    /** The field as bytes, at most the first [most] of them. */
    fun bytes(most: Int = Int.MAX_VALUE): ByteArray {
        expect(BYTES)
        val start = position - size
        return ByteArray(minOf(size, most)) { data[start + it] }
    }

    /** The field as text; what is no UTF-8 is refused. */
    fun text(): String {
        val bytes = bytes()
        val text = String(bytes, Charsets.UTF_8)
        require(text.toByteArray(Charsets.UTF_8).contentEquals(bytes)) { "text is not UTF-8" }
        return text
    }

    /** The field as a message of its own. */
    fun message(): WireReader {
        expect(BYTES)
        return WireReader(data, position - size, position, budget)
    }

    /** The field as one number or a packed list of numbers. */
    fun numbers(take: (Long) -> Unit) {
        if (isNumber) return take(bits)
        val list = message()
        while (list.position < list.end) {
            budget.spend()
            take(list.varint())
        }
    }

    private fun expect(wanted: Int) = require(kind == wanted) { "field $field is of wire type $kind, not $wanted" }

    private fun skip(length: Long) {
        require(length in 0L..(end - position).toLong()) { "a field reaches beyond the end" }
        size = length.toInt()
        position += size
    }

    private fun skip(length: Int) = skip(length.toLong())

    private fun varint(): Long {
        var value = 0L
        for (shift in 0..LAST_SHIFT step 7) {
            require(position < end) { "truncated or oversized number" }
            val byte = data[position++].toInt()
            // The tenth byte has room for the highest bit alone.
            require(shift < LAST_SHIFT || byte in 0..1) { "truncated or oversized number" }
            value = value or ((byte and 0x7F).toLong() shl shift)
            if (byte >= 0) return value
        }
        throw IllegalArgumentException("truncated or oversized number")
    }

    private companion object {
        const val VARINT = 0
        const val FIXED64 = 1
        const val BYTES = 2
        const val FIXED32 = 5
        const val LAST_SHIFT = 63
        const val MAX_FIELD_NUMBER = (1L shl 29) - 1
    }
}
