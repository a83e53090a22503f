package org.edgetta.engine

/**
 * Reads the wire format of protocol buffers (protobuf.dev, "Encoding") field by field.
 *
 * @throws IllegalArgumentException from every method: the bytes are no message.
 */
internal class WireReader(
    private val data: ByteArray,
    private var position: Int = 0,
    private val end: Int = data.size,
) {
    /** Number of the field that was read last. */
    var field = 0
        private set

    /** Value of a whole-number field, or bits of a fixed-width one. */
    var bits = 0L
        private set
    private var kind = 0
    private var start = 0

    /** Go to the next field; false at the end. */
    fun next(): Boolean {
        if (position == end) return false
        val key = varint()
        require(key ushr 3 in 1L..MAX_FIELD) { "a field has no number" }
        field = (key ushr 3).toInt()
        kind = (key and 7).toInt()
        when (kind) {
            VARINT -> bits = varint()
            FIXED64 -> bits = fixed(8)
            FIXED32 -> bits = fixed(4)
            BYTES -> {
                val size = varint()
                require(size in 0L..(end - position).toLong()) { "a field ends behind its message" }
                start = position
                position += size.toInt()
            }
            else -> throw IllegalArgumentException("a field of unknown type $kind")
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
        return java.lang.Float.intBitsToFloat(bits.toInt())
    }

    /** The field as bytes. */
    fun bytes(): ByteArray {
        expect(BYTES)
        return data.copyOfRange(start, position)
    }

    /** The field as text; what is no UTF-8 is refused. */
    fun text(): String {
        expect(BYTES)
        val text = String(data, start, position - start, Charsets.UTF_8)
        require(text.toByteArray(Charsets.UTF_8).contentEquals(bytes())) { "text is not UTF-8" }
        return text
    }

    /** The field as a message of its own. */
    fun message(): WireReader {
        expect(BYTES)
        return WireReader(data, start, position)
    }

    private fun expect(wanted: Int) = require(kind == wanted) { "field $field is of type $kind, not $wanted" }

    private fun varint(): Long {
        var value = 0L
        for (shift in 0 until 70 step 7) {
            require(position < end) { "a number ends behind its message" }
            val byte = data[position++].toInt()
            value = value or ((byte and 0x7F).toLong() shl shift)
            if (byte >= 0) return value
        }
        throw IllegalArgumentException("a number has more than ten bytes")
    }

    private fun fixed(size: Int): Long {
        require(end - position >= size) { "a number ends behind its message" }
        var value = 0L
        for (index in 0 until size) value = value or ((data[position + index].toLong() and 0xFF) shl (8 * index))
        position += size
        return value
    }

    private companion object {
        const val VARINT = 0
        const val FIXED64 = 1
        const val BYTES = 2
        const val FIXED32 = 5
        const val MAX_FIELD = (1L shl 29) - 1
    }
}
