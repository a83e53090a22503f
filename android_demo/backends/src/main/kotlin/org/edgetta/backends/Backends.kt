package org.edgetta.backends

import org.edgetta.engine.Backend
import org.edgetta.engine.BackendException
import org.edgetta.engine.Bundle

/** Which variants of a bundle run on Android, and how they are opened. */
object Backends {
    private const val ORT = "ort"
    private const val EXECUTORCH = "executorch"

    /** Most threads that can be asked for, as in the Python package. */
    const val MAX_THREADS = 64

    /**
     * Opens a variant on the runtime that the manifest names for it.
     *
     * @param bundle opened bundle.
     * @param variant name of one of its variants.
     * @param threads threads inside one operator, 1 to [MAX_THREADS]. Never "all cores": the slow cores of a phone
     *     hold the fast ones up.
     * @throws BackendException no such variant, none that runs here, or the runtime refuses it.
     * @throws org.edgetta.engine.BundleException a file of the variant is missing or damaged.
     */
    fun open(bundle: Bundle, variant: String, threads: Int): Backend {
        if (threads !in 1..MAX_THREADS) {
            throw BackendException("threads $threads is out of range: allowed are 1 to $MAX_THREADS")
        }
        val described = bundle.manifest.variants[variant]
            ?: throw BackendException(
                "the bundle has no variant '$variant'; it has ${bundle.manifest.variants.keys.sorted().joinToString()}",
            )
        return when (described.backend) {
            ORT -> OrtBackend(bundle, variant, threads)
            EXECUTORCH -> EtBackend(bundle, variant, threads)
            else -> throw BackendException("$variant: this version runs $ORT and $EXECUTORCH, not ${described.backend}")
        }
    }
}

/** First line of an exception's message, cut to 300 characters; its type where there is none. */
internal fun firstLine(error: Throwable): String =
    error.message?.trim()?.lineSequence()?.firstOrNull()?.takeIf { it.isNotEmpty() }?.take(300)
        ?: error.javaClass.simpleName
