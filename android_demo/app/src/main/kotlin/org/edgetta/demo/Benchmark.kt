package org.edgetta.demo

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import java.time.Instant
import java.time.temporal.ChronoUnit
import org.edgetta.engine.Bench
import org.edgetta.engine.Bundle
import org.edgetta.engine.GenerationRequest

/** Measures a variant on this device, with what the engine cannot know: the device, memory, the time of opening. */
class Benchmark(private val context: Context) {
    /** A record as JSON, and its median for the screen. */
    class Record(val json: String, val medianSeconds: Double)

    /**
     * Runs on the calling thread; cancelling the pipeline stops it.
     *
     * @param request what is made in every run; its prompt and seed are replaced by those that all records have.
     * @param runs timed sounds.
     * @throws org.edgetta.engine.EdgeTtaException as TextToAudio.generate.
     */
    fun run(pipeline: Pipeline, bundle: Bundle, request: DemoRequest, runs: Int): Record {
        // Opened anew, so that the record has a time of opening; the peak is that of the process, whatever it did before.
        pipeline.close()
        val model = pipeline.open(bundle, request.variant, request.threads)
        val asked = GenerationRequest(Bench.PROMPT, request.seconds, steps = request.steps)
        val report = Bench.run(model, asked, runs) { _, _ -> pipeline.checkCancelled() }
        val more = mapOf(
            "date" to Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
            "variant" to request.variant,
            "load_seconds" to pipeline.openSeconds,
            "peak_rss_bytes" to Memory.peakResident(),
        )
        return Record(report.toJson(device(), more), report.stages.getValue("total").medianMs / 1000)
    }

    /** Make and system; nothing that tells one device from another of its kind. */
    private fun device(): Map<String, Any?> {
        val manager = context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager
        val memory = ActivityManager.MemoryInfo().also(manager::getMemoryInfo)
        return mapOf(
            "manufacturer" to Build.MANUFACTURER,
            "model" to Build.MODEL,
            "board" to Build.BOARD,
            "hardware" to Build.HARDWARE,
            "android" to Build.VERSION.RELEASE,
            "api" to Build.VERSION.SDK_INT,
            "abis" to Build.SUPPORTED_ABIS.toList(),
            "cores" to Runtime.getRuntime().availableProcessors(),
            "memory_bytes" to memory.totalMem,
        )
    }

    companion object {
        /** Timed sounds, as in the Python package. */
        const val RUNS = 20
    }
}
