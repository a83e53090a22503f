package org.edgetta.backends

/** First line of an exception's message, cut to 300 characters; its type where there is none. */
internal fun firstLine(error: Throwable): String =
    error.message?.trim()?.lineSequence()?.firstOrNull()?.takeIf { it.isNotEmpty() }?.take(300)
        ?: error.javaClass.simpleName
