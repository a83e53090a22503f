package org.edgetta.backends

import org.edgetta.engine.Backend
import org.edgetta.engine.BackendException
import org.edgetta.engine.Bundle
import org.edgetta.engine.BundleException
import org.edgetta.engine.StageFile
import org.edgetta.engine.TextFeatures
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * One variant of a bundle in ExecuTorch with XNNPACK: the stages are methods of one program.
 *
 * The program is mapped into memory by its path and never enters the Java heap. Calls may come from any thread; they
 * wait for each other. ExecuTorch has one pool of threads for the whole process, so all variants that are open at a
 * time have the same number of threads.
 *
 * @param bundle opened bundle.
 * @param variant name of one of its variants for this runtime.
 * @param threads size of the pool.
 * @throws BackendException the library cannot be loaded or refuses the program, its methods are not the stages, or the
 *     pool is in use with another number of threads.
 * @throws BundleException the file is missing or damaged, or the manifest names more than one.
 */
class EtBackend(bundle: Bundle, variant: String, override val threads: Int) : Backend {
    private val described = bundle.manifest.variants[variant]
        ?: throw BackendException("executorch: the bundle has no variant '$variant'")

    override val name: String = "executorch"
    override val precision: String = described.precision

    private val stages: Map<String, StageFile> = described.stages
    private val lock = Any()
    private var module: Module? = null

    init {
        val files = stages.values.map { it.file }.distinct()
        if (files.size != 1) {
            throw BundleException("$variant: an ExecuTorch variant is one file, the manifest names ${files.size}")
        }
        val path = bundle.stageFile(variant, stages.keys.first()).path
        enterPool(threads)
        try {
            module = load(files.single(), path)
        } catch (error: Throwable) {
            leavePool()
            throw error
        }
    }

    /** Token features [1, count, width] and sentence vector [1, width] of ids [1, count]. */
    override fun textEncoder(ids: LongArray): TextFeatures {
        val tensor = Tensor.fromBlob(ids, longArrayOf(1, ids.size.toLong()))
        val (tokens, pooled) = run("text_encoder", 2, mapOf("ids" to tensor))
        return TextFeatures(tokens, ids.size, pooled)
    }

    /** Average velocity [1, frames, channels] of a latent of that shape over [time - duration, time]. */
    override fun generator(
        latent: FloatArray,
        frames: Int,
        time: Float,
        duration: Float,
        text: TextFeatures,
        seconds: Float,
        guidance: Float,
    ): FloatArray {
        val inputs = mapOf(
            "latent" to rows(latent, frames),
            "time" to scalar(time),
            "duration" to scalar(duration),
            "tokens" to rows(text.tokens, text.count),
            "pooled" to Tensor.fromBlob(text.pooled, longArrayOf(1, text.pooled.size.toLong())),
            "seconds" to scalar(seconds),
            "guidance" to scalar(guidance),
        )
        return run("generator", 1, inputs)[0]
    }

    /** Waveform [1, channels, frames * hop] of a standardised latent [1, frames, channels]. */
    override fun decoder(latent: FloatArray, frames: Int): FloatArray =
        run("decoder", 1, mapOf("latent" to rows(latent, frames)))[0]

    /** Releases the program; calling it twice is fine. */
    override fun close() {
        synchronized(lock) {
            module?.let {
                module = null
                it.destroy()
                leavePool()
            }
        }
    }

    private fun scalar(value: Float): Tensor = Tensor.fromBlob(floatArrayOf(value), longArrayOf(1))

    private fun rows(values: FloatArray, count: Int): Tensor =
        Tensor.fromBlob(values, longArrayOf(1, count.toLong(), values.size.toLong() / maxOf(1, count)))

    /** Outputs of a method in order, as arrays of their own: the next call overwrites the program's. */
    private fun run(method: String, outputs: Int, inputs: Map<String, Tensor>): List<FloatArray> = synchronized(lock) {
        val program = module ?: throw BackendException("executorch: the backend is closed")
        // Methods take inputs by place, in the manifest's order; a method folded for one step takes fewer.
        val given = stages.getValue(method).inputs.map { port ->
            EValue.from(
                inputs[port.name]
                    ?: throw BackendException("executorch: $method asks for '${port.name}', which no stage makes"),
            )
        }
        val made = try {
            program.execute(method, *given.toTypedArray()).map { it.toTensor().dataAsFloatArray }
        } catch (error: RuntimeException) {
            throw BackendException("executorch: $method failed: ${firstLine(error)}", error)
        } catch (error: OutOfMemoryError) {
            throw BackendException("executorch: $method needs more memory than there is", error)
        }
        if (made.size != outputs) {
            throw BackendException("executorch: $method made ${made.size} outputs, expected $outputs")
        }
        made
    }

    private fun load(file: String, path: String): Module {
        val loaded = try {
            Module.load(path, Module.LOAD_MODE_MMAP, threads)
        } catch (error: LinkageError) {
            throw BackendException("executorch: the library cannot be loaded: ${firstLine(error)}", error)
        } catch (error: RuntimeException) {
            throw BackendException("executorch: $file was refused: ${firstLine(error)}", error)
        }
        try {
            val methods = loaded.getMethods().toSet()
            if (methods != stages.keys) {
                throw BackendException(
                    "executorch: $file has the methods ${methods.sorted().joinToString()}; " +
                        "the manifest says ${stages.keys.sorted().joinToString()}",
                )
            }
            // Methods are otherwise loaded by the first sound, which would be charged for it.
            methods.forEach(loaded::loadMethod)
        } catch (error: BackendException) {
            loaded.destroy()
            throw error
        } catch (error: RuntimeException) {
            loaded.destroy()
            throw BackendException("executorch: $file was refused: ${firstLine(error)}", error)
        }
        return loaded
    }

    /** The process's pool of threads: who uses it, and with how many threads. */
    private companion object Pool {
        private var users = 0
        private var size = 0

        fun enterPool(threads: Int) = synchronized(this) {
            if (users > 0 && size != threads) {
                throw BackendException(
                    "executorch: $threads threads were asked for, but its one pool for the whole process has $size and " +
                        "is in use; ask for $size, or close what is open",
                )
            }
            size = threads
            users += 1
        }

        fun leavePool() = synchronized(this) { users -= 1 }
    }
}
