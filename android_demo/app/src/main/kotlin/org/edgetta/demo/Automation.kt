package org.edgetta.demo

import android.content.Intent
import java.io.File
import java.io.IOException
import org.edgetta.engine.WaveFile
import org.json.JSONArray
import org.json.JSONObject

/**
 * What a command line asks of the app, through extras of the intent that starts it:
 *
 *     adb shell am start -n org.edgetta.demo/.MainActivity --es prompt "rain" --ez bench true
 *
 * Results are written to the app's external files folder, where adb can read them. [RESULT] is removed before anything
 * is done and appears when all is done, so that a script can wait for it.
 *
 * @property prompt what to make; the benchmark has its own.
 * @property bench measure in place of making one sound.
 * @property runs timed sounds of a benchmark.
 */
class Automation private constructor(
    val prompt: String,
    val bench: Boolean,
    val runs: Int,
    private val extras: Map<String, Any?>,
) {
    /** The request on a model, with defaults for what was not said. */
    fun request(model: Model): DemoRequest = DemoRequest(
        prompt = prompt,
        seconds = number("seconds")?.toDouble() ?: if (bench) BENCHMARK_SECONDS else DEFAULT_SECONDS,
        seed = number("seed")?.toLong() ?: 0,
        steps = number("steps")?.toInt() ?: 1,
        threads = number("threads")?.toInt() ?: defaultThreads(),
        variant = extras["variant"] as? String ?: model.variants.first(),
    )

    /** Of --ei, --el and --ef whichever was used. */
    private fun number(name: String): Number? = extras[name] as? Number

    companion object {
        const val RESULT = "result.json"
        const val SOUND = "result.wav"
        private const val DEFAULT_SECONDS = 5.0

        /** What the project's tables are of. */
        private const val BENCHMARK_SECONDS = 10.0

        /** Any app can start this one; none can keep it busy for hours. */
        private const val MOST_RUNS = 200
        private val NUMBERS = listOf("seconds", "seed", "steps", "threads", "runs")

        /** What an intent asks for; null if it is a plain start. */
        fun of(intent: Intent): Automation? {
            val bench = intent.getBooleanExtra("bench", false)
            val prompt = intent.getStringExtra("prompt")
            if (!bench && prompt == null) return null
            val given = intent.extras
            @Suppress("DEPRECATION") // The getters with a type refuse --ei where --el is meant.
            val extras = NUMBERS.associateWith { given?.get(it) } + ("variant" to intent.getStringExtra("variant"))
            val runs = (extras["runs"] as? Number)?.toInt() ?: Benchmark.RUNS
            return Automation(prompt.orEmpty(), bench, runs.coerceIn(1, MOST_RUNS), extras)
        }

        /** Removes what an earlier start left. */
        fun clear(folder: File) = listOf(RESULT, SOUND).forEach { File(folder, it).delete() }

        /**
         * Writes what came of it.
         *
         * @throws IOException the folder cannot be written to.
         */
        fun write(folder: File, outcome: Outcome) {
            val json = when (outcome) {
                is Outcome.Measured -> outcome.json
                is Outcome.Failed -> JSONObject().put("error", outcome.message).toString()
                is Outcome.Opened -> return
                is Outcome.Made -> {
                    put(File(folder, SOUND), WaveFile.encode(outcome.sound.result))
                    describe(outcome.sound).toString()
                }
            }
            put(File(folder, RESULT), json.toByteArray())
        }

        private fun describe(sound: Sound): JSONObject {
            val timings = sound.result.timings
            val stages = JSONObject()
                .put("tokenizer", timings.tokenizerMs / 1000)
                .put("text_encoder", timings.textEncoderMs / 1000)
                .put("generator", timings.generatorMs / 1000)
                .put("decoder", timings.decoderMs / 1000)
                .put("total", timings.totalMs / 1000)
            val request = sound.request
            return JSONObject()
                .put("prompt", request.prompt)
                .put("seconds", request.seconds)
                .put("seed", request.seed)
                .put("steps", request.steps)
                .put("threads", request.threads)
                .put("variant", request.variant)
                .put("load_seconds", sound.openSeconds)
                .put("stages", stages)
                .put("real_time_factor", sound.result.realTimeFactor)
                .put("peak_rss_bytes", sound.peakBytes)
                .put("gain", sound.result.gain.toDouble())
                .put("warnings", JSONArray(sound.result.warnings))
                .put("sound", SOUND)
        }

        /** Under its final name a file is whole. */
        private fun put(target: File, bytes: ByteArray) {
            val part = File(target.path + ".part")
            part.writeBytes(bytes)
            if (!part.renameTo(target)) throw IOException("${target.name} cannot be put in its place")
        }
    }
}

/** Threads used when none are asked for: the cores, at most four, as in the Python package. */
internal fun defaultThreads(): Int = minOf(Runtime.getRuntime().availableProcessors(), 4)
