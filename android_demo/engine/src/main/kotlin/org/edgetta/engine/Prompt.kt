package org.edgetta.engine

import java.text.Normalizer

/** Prompts as models read them. */
object Prompt {
    /** Longest prompt in UTF-8 bytes; anything longer is refused before any work. */
    const val MAX_BYTES = 4096

    /**
     * The prompt in NFKC, without control or format characters, in lower case, with single spaces.
     *
     * Characters that are newer than the Unicode tables of the system stay as they are.
     *
     * @throws RequestException empty, too long, invalid Unicode, or without any letter or digit.
     */
    fun normalise(prompt: String): String {
        if (Unicode.hasLoneSurrogate(prompt)) {
            throw RequestException("prompt is not valid Unicode: it holds a lone surrogate")
        }
        val size = Unicode.utf8Length(prompt)
        if (size > MAX_BYTES) throw RequestException("prompt has $size bytes; at most $MAX_BYTES are allowed")
        if ('\u0000' in prompt) throw RequestException("prompt holds a NUL character")
        val visible = StringBuilder()
        compose(prompt).codePoints().forEach {
            if (Unicode.isSpace(it) || !Unicode.isInvisible(it)) visible.appendCodePoint(it)
        }
        // Lower case can decompose letters, and a dropped character may have kept two from composing.
        val text = singleSpaces(compose(Unicode.lowerCase(visible.toString())))
        if (text.isEmpty()) throw RequestException("prompt is empty; describe a sound, as in 'rain on a tin roof'")
        if (text.codePoints().noneMatch { Unicode.isLetterOrNumber(it) }) {
            throw RequestException("prompt holds no letter or digit; describe a sound in words")
        }
        return text
    }

    private fun compose(text: String): String = Normalizer.normalize(text, Normalizer.Form.NFKC)

    private fun singleSpaces(text: String): String {
        val words = StringBuilder()
        var pending = false
        text.codePoints().forEach {
            if (Unicode.isSpace(it)) {
                pending = words.isNotEmpty()
            } else {
                if (pending) words.append(' ')
                pending = false
                words.appendCodePoint(it)
            }
        }
        return words.toString()
    }
}
