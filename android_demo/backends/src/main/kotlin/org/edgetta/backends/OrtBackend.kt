package org.edgetta.backends

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.edgetta.engine.Backend
import org.edgetta.engine.BackendException
import org.edgetta.engine.Bundle
import org.edgetta.engine.StageFile
import org.edgetta.engine.TextFeatures

/**
 * One variant of a bundle in ONNX Runtime, on the CPU.
 *
 * Graphs are opened by their path: their bytes never enter the Java heap, whose limit is far below the memory that a
 * phone has. Calls may come from any thread; they wait for each other.
 *
 * @param bundle opened bundle.
 * @param variant name of one of its variants for this runtime.
 * @param threads threads inside one operator.
 * @throws BackendException the library cannot be loaded or refuses a graph, or a graph has other inputs or outputs
 *     than the manifest says.
 * @throws org.edgetta.engine.BundleException a file is missing or damaged.
 */
class OrtBackend(bundle: Bundle, variant: String, override val threads: Int) : Backend {
    private val described = bundle.manifest.variants[variant]
        ?: throw BackendException("ort: the bundle has no variant '$variant'")

    override val name: String = "ort"
    override val precision: String = described.precision

    private val environment = loadEnvironment()
    private val stages: Map<String, StageFile> = described.stages
    private val options = sessionOptions()
    private val sessions = HashMap<String, OrtSession>()
    private val lock = Any()
    private var closed = false

    init {
        try {
            val files = stages.keys.associateWith { stage -> bundle.stageFile(variant, stage) }
            // The largest first: a file and its packed weights are there at once, and then nothing else is yet.
            for ((stage, file) in files.entries.sortedByDescending { it.value.length() }) {
                sessions[stage] = openSession(stage, file.path)
            }
        } catch (error: Throwable) {
            close()
            throw error
        }
    }

    /** Token features [1, count, width] and sentence vector [1, width] of ids [1, count]. */
    override fun textEncoder(ids: LongArray): TextFeatures {
        val shape = longArrayOf(1, ids.size.toLong())
        val (tokens, pooled) = run("text_encoder", 2) {
            put("ids", OnnxTensor.createTensor(environment, LongBuffer.wrap(ids), shape))
        }
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
        val arrays = mapOf("latent" to latent, "tokens" to text.tokens, "pooled" to text.pooled)
        val rows = mapOf("latent" to frames, "tokens" to text.count)
        val scalars = mapOf("time" to time, "duration" to duration, "seconds" to seconds, "guidance" to guidance)
        return run("generator", 1) {
            // A graph that is folded for one step asks for fewer inputs than the stage has.
            for (port in stage("generator").inputs.map { it.name }) {
                val array = arrays[port]
                val scalar = scalars[port]
                when {
                    array != null -> put(port, floats(array, shapeOf(array, rows[port])))
                    scalar != null -> put(port, floats(floatArrayOf(scalar), longArrayOf(1)))
                    else -> throw BackendException("ort: generator asks for '$port', which no stage makes")
                }
            }
        }[0]
    }

    /** Waveform [1, channels, frames * hop] of a standardised latent [1, frames, channels]. */
    override fun decoder(latent: FloatArray, frames: Int): FloatArray =
        run("decoder", 1) { put("latent", floats(latent, shapeOf(latent, frames))) }[0]

    /** Releases sessions and memory; calling it twice is fine. */
    override fun close() {
        synchronized(lock) {
            if (closed) return
            closed = true
            sessions.values.forEach { it.close() }
            sessions.clear()
            // The library wants options to outlive the sessions that were made with them.
            options.close()
        }
    }

    private fun stage(name: String): StageFile =
        stages[name] ?: throw BackendException("ort: the variant has no stage '$name'")

    private fun floats(values: FloatArray, shape: LongArray): OnnxTensor =
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), shape)

    /** [1, rows, width] of an array that has rows, [1, width] of one that has none. */
    private fun shapeOf(values: FloatArray, rows: Int?): LongArray = when (rows) {
        null -> longArrayOf(1, values.size.toLong())
        else -> longArrayOf(1, rows.toLong(), values.size.toLong() / maxOf(1, rows))
    }

    /** Outputs of a stage in the manifest's order, as arrays of their own. */
    private fun run(stage: String, outputs: Int, fill: MutableMap<String, OnnxTensor>.() -> Unit): List<FloatArray> =
        synchronized(lock) {
            val session = sessions[stage] ?: throw BackendException("ort: the backend is closed")
            val given = LinkedHashMap<String, OnnxTensor>()
            try {
                given.fill()
                session.run(given).use { result ->
                    List(outputs) { index -> arrayOf(result.get(index) as OnnxTensor) }
                }
            } catch (error: OrtException) {
                throw BackendException("ort: $stage failed: ${firstLine(error)}", error)
            } catch (error: OutOfMemoryError) {
                throw BackendException("ort: $stage needs more memory than there is", error)
            } finally {
                given.values.forEach { it.close() }
            }
        }

    private fun arrayOf(tensor: OnnxTensor): FloatArray {
        val buffer = tensor.floatBuffer
        return FloatArray(buffer.remaining()).also { buffer.get(it) }
    }

    private fun openSession(stage: String, path: String): OrtSession {
        val file = stage(stage).file
        val session = try {
            // Session creation is not thread-safe in ONNX Runtime (its issue 27089); running a session is.
            synchronized(CREATION) { environment.createSession(path, options) }
        } catch (error: OrtException) {
            throw BackendException("ort: $stage ($file) was refused: ${firstLine(error)}", error)
        }
        try {
            checkInterface(session, stage)
        } catch (error: Throwable) {
            session.close()
            throw error
        }
        return session
    }

    private fun sessionOptions() = OrtSession.SessionOptions().apply {
        setIntraOpNumThreads(threads)
        setInterOpNumThreads(1)
        setExecutionMode(OrtSession.SessionOptions.ExecutionMode.SEQUENTIAL)
        // What goes wrong arrives as an exception; the library's own copy in the log would be a second line.
        setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL)
        // Patterns keep buffers for every length seen. The arena keeps the largest.
        setMemoryPatternOptimization(false)
        setCPUArenaAllocator(true)
        // Idle threads that spin would take the cores of the app around us, and its battery.
        addConfigEntry("session.intra_op.allow_spinning", "0")
    }

    private fun checkInterface(session: OrtSession, stage: String) {
        val described = stage(stage)
        val inputs = described.inputs.map { it.name }
        val outputs = described.outputs.map { it.name }
        // Inputs are given by name, outputs are taken by place.
        refuseUnless(session.inputNames == inputs.toSet(), stage, "inputs", session.inputNames, inputs)
        refuseUnless(session.outputNames.toList() == outputs, stage, "outputs", session.outputNames, outputs)
    }

    private fun refuseUnless(equal: Boolean, stage: String, kind: String, found: Set<String>, described: List<String>) {
        if (!equal) {
            throw BackendException(
                "ort: $stage (${stage(stage).file}) has the $kind ${found.joinToString()}; " +
                    "the manifest says ${described.joinToString()}",
            )
        }
    }

    private companion object {
        val CREATION = Any()

        fun loadEnvironment(): OrtEnvironment = try {
            // The environment is one for the whole process; the name is what its log lines carry.
            OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, "edge_tta").apply { setTelemetry(false) }
        } catch (error: LinkageError) {
            throw BackendException("ort: the library cannot be loaded: ${firstLine(error)}", error)
        } catch (error: Exception) {
            // Its classes wrap what fails while they are loaded in exceptions of several kinds.
            throw BackendException("ort: the library does not start: ${firstLine(error)}", error)
        }
    }
}
