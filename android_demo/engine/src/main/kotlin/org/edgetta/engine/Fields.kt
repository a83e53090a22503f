package org.edgetta.engine

/**
 * Strict access to one object of a document: every field is taken once and checked, what is left over is refused.
 *
 * @param document the object as [JsonReader] makes it.
 * @param place dotted path of the object, for messages; empty for the document itself.
 */
internal class Fields(private val document: Map<String, Any?>, private val place: String) {
    private val left = document.keys.toMutableSet()

    companion object {
        /** The object at a place, or a refusal of whatever else is there. */
        fun of(value: Any?, place: String): Fields {
            val fields = value as? Map<*, *> ?: refuse(place, "an object is expected")
            @Suppress("UNCHECKED_CAST") // The reader makes no other keys.
            return Fields(fields as Map<String, Any?>, place)
        }

        /** Refuse what is at a place. */
        fun refuse(place: String, reason: String): Nothing =
            throw IllegalArgumentException(if (place.isEmpty()) reason else "$place: $reason")
    }

    /** Dotted path of a field. */
    fun at(name: String): String = if (place.isEmpty()) name else "$place.$name"

    /** Keys of an object whose keys are names of its own. */
    fun keys(): Set<String> = document.keys

    /** Whether a field that may be left out is there. */
    fun has(name: String): Boolean = document.containsKey(name)

    /** A field of any type. */
    fun any(name: String): Any? {
        if (!document.containsKey(name)) refuse(at(name), "the field is missing")
        left.remove(name)
        return document[name]
    }

    /** A field that is an object. */
    fun fields(name: String): Fields = of(any(name), at(name))

    /** A field that is a list of at most [most] items; each is handed on with its place. */
    fun <T> list(name: String, most: Int, read: (Any?, String) -> T): List<T> {
        val items = any(name) as? List<*> ?: refuse(at(name), "a list is expected")
        if (items.size > most) refuse(at(name), "more than $most items")
        return items.mapIndexed { index, item -> read(item, "${at(name)}.$index") }
    }

    /** A field that is text of a form. */
    fun text(name: String, form: Regex): String = text(name).also {
        if (!form.matches(it)) refuse(at(name), "text of another form is expected")
    }

    /** A field that is text, of any form but without lone surrogates. */
    fun text(name: String): String {
        val text = any(name) as? String ?: refuse(at(name), "text is expected")
        if (Unicode.hasLoneSurrogate(text)) refuse(at(name), "not valid Unicode")
        return text
    }

    /** A field that is one of several words. */
    fun choice(name: String, words: Collection<String>): String = text(name).also {
        if (it !in words) refuse(at(name), "one of ${words.joinToString()} is expected")
    }

    /** A field that is a whole number. */
    fun whole(name: String, range: LongRange): Long {
        val number = any(name) as? Long ?: refuse(at(name), "a whole number of ordinary size is expected")
        if (number !in range) refuse(at(name), "allowed are ${range.first} to ${range.last}")
        return number
    }

    /** A field that is any finite number. */
    fun number(name: String, low: Double, high: Double): Double {
        val number = (any(name) as? Number)?.toDouble() ?: refuse(at(name), "a number is expected")
        // Infinity stands for no limit, and a whole number of 400 digits reads as infinite.
        if (number.isInfinite()) refuse(at(name), "a finite number is expected")
        if (number < low || number > high) {
            refuse(at(name), "allowed are ${Numbers.general(low)} to ${Numbers.general(high)}")
        }
        return number
    }

    /** Refuse every field that nobody has asked for. */
    fun end() {
        left.minOrNull()?.let { refuse(at(it), "the field is unknown") }
    }
}
