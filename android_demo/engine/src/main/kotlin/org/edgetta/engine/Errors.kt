package org.edgetta.engine

/** Base of every error that this package raises on purpose: the message is one line that can be shown. */
open class EdgeTtaException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** A bundle that is damaged, hostile or of an unknown schema; names the file and the reason. */
class BundleException(message: String, cause: Throwable? = null) : EdgeTtaException(message, cause)

/** A generation request that cannot be served; names field, value and allowed range. */
class RequestException(message: String) : EdgeTtaException(message)

/** A runtime backend failed; names backend and stage. */
class BackendException(message: String, cause: Throwable? = null) : EdgeTtaException(message, cause)

/** The caller asked to stop between two stages. */
class CancelledException : EdgeTtaException("cancelled")
