package org.edgetta.backends

import java.io.File
import org.edgetta.engine.Backend
import org.edgetta.engine.BackendException
import org.edgetta.engine.Bundle
import org.edgetta.engine.BundleException

/** Which variants of a bundle run on Android, and how they are opened. */
object Backends {
    private const val ORT = "ort"
    private const val EXECUTORCH = "executorch"

    /** Most threads that can be asked for, as in the Python package. */
    const val MAX_THREADS = 64

    /**
     * Names of the variants that run here and whose files are there, int8 first: a bundle may be carried in part.
     *
     * A file is judged when it is opened; here it only has to exist.
     */
    fun variants(bundle: Bundle): List<String> = bundle.manifest.variants
        .filterValues { it.backend == ORT || (it.backend == EXECUTORCH && it.delegate == "xnnpack") }
        .filterValues { variant ->
            variant.files().all { entry -> entry.stored().all { (path, _) -> File(bundle.root, path).isFile } }
        }
        .entries.sortedWith(compareBy({ it.value.precision != "int8" }, { it.key }))
        .map { it.key }

    /**
     * Opens a variant on the runtime that the manifest names for it.
     *
     * @param bundle opened bundle.
     * @param variant name of one of its variants.
     * @param threads threads inside one operator, 1 to [MAX_THREADS]. Never "all cores": the slow cores of a phone
     *     hold the fast ones up.
     * @throws BackendException no such variant, none that runs here, or the runtime refuses it.
     * @throws BundleException a file of the variant is missing or damaged.
     */
    @JvmStatic
    @Throws(BackendException::class, BundleException::class)
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
