package org.edgetta.demo

import org.edgetta.backends.Backends
import org.edgetta.engine.Bundle
import org.edgetta.engine.CancelledException
import org.edgetta.engine.TextToAudio

/**
 * The model that is open, if any: one at a time, because two would need the memory of two.
 *
 * [open] and [close] are called by one thread; [begin] and [cancel] by any.
 */
class Pipeline : AutoCloseable {
    private class Open(val bundle: Bundle, val variant: String, val threads: Int, val model: TextToAudio)

    @Volatile
    private var current: Open? = null

    @Volatile
    private var cancelled = false

    /** Time that opening the variant took, files hashed and graphs loaded, in seconds. */
    var openSeconds = 0.0
        private set

    /** Forgets that the last piece of work was cancelled. */
    fun begin() {
        cancelled = false
    }

    /** Stops the work that [begin] started before its next stage. */
    fun cancel() {
        cancelled = true
        current?.model?.cancel()
    }

    /**
     * The model of a variant, opened unless it is open already.
     *
     * @throws CancelledException [cancel] was called since [begin].
     * @throws org.edgetta.engine.EdgeTtaException it cannot be opened.
     */
    fun open(bundle: Bundle, variant: String, threads: Int): TextToAudio {
        checkCancelled()
        current?.let { open ->
            if (open.bundle === bundle && open.variant == variant && open.threads == threads) return open.model
        }
        close()
        val started = System.nanoTime()
        val backend = Backends.open(bundle, variant, threads)
        val model = try {
            TextToAudio(bundle, backend)
        } catch (error: Throwable) {
            backend.close()
            throw error
        }
        openSeconds = (System.nanoTime() - started) / 1e9
        current = Open(bundle, variant, threads, model)
        checkCancelled()
        return model
    }

    /** Closes the open model; harmless if there is none. */
    override fun close() {
        val open = current ?: return
        current = null
        open.model.close()
    }

    /** A cancel that came while the model was being opened, or between two sounds, has no call to stop. */
    fun checkCancelled() {
        if (cancelled) throw CancelledException()
    }
}
