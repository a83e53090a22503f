package org.edgetta.demo

import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import java.io.File
import java.io.IOException
import java.util.concurrent.Executors
import org.edgetta.backends.Backends
import org.edgetta.engine.Bundle
import org.edgetta.engine.CancelledException
import org.edgetta.engine.EdgeTtaException
import org.edgetta.engine.GenerationRequest

/**
 * What the app does, apart from how it looks: opens the bundle, makes sounds, measures. Outlives the activity that a
 * rotation destroys.
 *
 * Methods are called on the main thread and return at once; work is done on one thread of its own, one thing after the
 * other, and [state] changes on the main thread.
 */
class Controller(context: Context) {
    private val context = context.applicationContext
    private val main = Handler(Looper.getMainLooper())
    private val worker = Executors.newSingleThreadExecutor { work -> Thread(work, "edge_tta") }

    /** Told of every change, on the main thread; null while there is no screen. */
    var listener: ((DemoState) -> Unit)? = null

    /** What is to be seen now. */
    var state = DemoState(message = context.getString(R.string.status_opening))
        private set(value) {
            field = value
            listener?.invoke(value)
        }

    /** Touched on the worker alone. */
    private var bundle: Bundle? = null
    private val pipeline = Pipeline()

    init {
        work(reported = false) {
            bundle = installer().open()
            Outcome.Opened(describe(openedBundle()))
        }
    }

    /** Makes a sound. If it is [reported], what came of it is written for a command line too. */
    fun generate(request: DemoRequest, reported: Boolean = false) {
        begin(Phase.GENERATING, context.getString(R.string.status_generating))
        work(reported) {
            val model = pipeline.open(openedBundle(), request.variant, request.threads)
            val asked = GenerationRequest(request.prompt, request.seconds, request.seed, request.steps)
            Outcome.Made(Sound(request, model.generate(asked), pipeline.openSeconds, Memory.peakResident()))
        }
    }

    /** Measures [runs] sounds after a few that do not count. */
    fun benchmark(request: DemoRequest, runs: Int = Benchmark.RUNS, reported: Boolean = false) {
        begin(Phase.BENCHMARKING, context.getString(R.string.status_benchmarking, runs))
        work(reported) {
            val record = Benchmark(context).run(pipeline, openedBundle(), request, runs)
            Outcome.Measured(record.json, record.medianSeconds, request.seconds)
        }
    }

    /** Stops what is being made before its next stage. */
    fun cancel() = pipeline.cancel()

    /** Writes bytes to a place that the user chose. */
    fun save(place: Uri, bytes: () -> ByteArray) = worker.execute {
        try {
            Documents.write(context.contentResolver, place, bytes())
            main.post { state = state.copy(message = context.getString(R.string.status_saved), failed = false) }
        } catch (error: IOException) {
            main.post { refuse(context.getString(R.string.error_save, line(error))) }
        }
    }

    /** Reads the bundle's model card and attributions, line by line, and hands them over on the main thread. */
    fun readAbout(onRead: (List<String>) -> Unit) = worker.execute {
        val lines = bundle?.let { About.lines(it) }.orEmpty()
        main.post { onRead(lines) }
    }

    /** Shows an error that the screen found, such as a seed that is no number. */
    fun refuse(message: String) {
        state = state.copy(message = message, failed = true)
    }

    /** Gives threads and memory back; nothing works afterwards. */
    fun close() {
        listener = null
        pipeline.cancel()
        worker.execute { pipeline.close() }
        worker.shutdown()
    }

    /** Writes for a command line that nothing was done, and why. */
    fun reportFailure(message: String) = worker.execute { write(Outcome.Failed(message)) }

    private fun installer() = BundleInstaller(
        PackageAssets(context.assets),
        context.getExternalFilesDir(null),
        context.filesDir,
        File(context.cacheDir, "parts"),
    )

    private fun openedBundle(): Bundle = bundle ?: throw EdgeTtaException(context.getString(R.string.error_no_bundle))

    private fun describe(bundle: Bundle): Model {
        val audio = bundle.manifest.audio
        val variants = Backends.variants(bundle)
        if (variants.isEmpty()) throw EdgeTtaException(context.getString(R.string.error_no_variant, bundle.name))
        return Model(bundle.name, variants, audio.minSeconds, audio.maxSeconds, bundle.manifest.generation.maxSteps)
    }

    private fun begin(phase: Phase, message: String) {
        pipeline.begin()
        state = state.copy(phase = phase, message = message, failed = false)
    }

    /** Runs on the worker; whatever goes wrong becomes one line on the screen, never the end of the app. */
    private fun work(reported: Boolean, task: () -> Outcome) = worker.execute {
        val outcome = try {
            task()
        } catch (error: CancelledException) {
            Outcome.Failed(context.getString(R.string.status_cancelled), cancelled = true)
        } catch (error: EdgeTtaException) {
            Outcome.Failed(line(error))
        } catch (error: Exception) {
            Outcome.Failed(context.getString(R.string.error_unexpected, line(error)))
        } catch (error: OutOfMemoryError) {
            Outcome.Failed(context.getString(R.string.error_unexpected, line(error)))
        }
        if (reported) write(outcome)
        main.post { settle(outcome) }
    }

    private fun settle(outcome: Outcome) {
        val done = state.copy(phase = Phase.READY, failed = false)
        state = when (outcome) {
            is Outcome.Opened -> {
                val ready = context.getString(R.string.status_ready, outcome.model.name)
                val shortage = Memory.shortage(context)?.let { context.getString(R.string.warning_memory, it shr 20) }
                done.copy(message = listOfNotNull(ready, shortage).joinToString("\n"), model = outcome.model)
            }
            is Outcome.Made -> {
                val request = outcome.sound.request
                val made = context.getString(R.string.status_done, request.prompt, request.seed)
                val message = (listOf(made) + outcome.sound.result.warnings).joinToString("\n")
                done.copy(message = message, sound = outcome.sound)
            }
            is Outcome.Measured -> {
                val median = outcome.medianSeconds * 1000
                val message = context.getString(R.string.status_benchmark_done, median, outcome.seconds)
                done.copy(message = message, benchmark = outcome.json)
            }
            is Outcome.Failed -> done.copy(
                phase = if (state.model == null) Phase.UNUSABLE else Phase.READY,
                message = outcome.message,
                failed = !outcome.cancelled,
            )
        }
    }

    private fun write(outcome: Outcome) {
        val folder = context.getExternalFilesDir(null) ?: return
        try {
            Automation.write(folder, outcome)
        } catch (error: IOException) {
            main.post { refuse(context.getString(R.string.error_save, line(error))) }
        }
    }

    private fun line(error: Throwable): String =
        error.message?.lineSequence()?.firstOrNull()?.takeIf { it.isNotBlank() } ?: error.javaClass.simpleName
}
