package org.edgetta.engine

/** Latency of a model on this device, as one record that can be shared (schema "android-bench/1"). */
object Bench {
    /** Schema of [Report.toJson]: the fields of the project's "bench/1" that an app can know, times in seconds. */
    const val SCHEMA = "android-bench/1"

    /** Sounds that are made and not timed. */
    const val WARM_UP_ROUNDS = 3

    /** The prompt of the project's own measurements. */
    const val PROMPT = "rain on a tin roof, distant thunder"

    /** Milliseconds. */
    class Distribution(val bestMs: Double, val medianMs: Double, val p95Ms: Double)

    /**
     * What was found.
     *
     * @property bundle name and beginning of the digest.
     * @property seconds duration of every sound.
     * @property steps network steps of every sound.
     * @property warmUpMs the first sound.
     * @property stages by name: tokenizer, text_encoder, generator, decoder, total.
     * @property totalsMs every timed round in order.
     */
    class Report(
        val bundle: String,
        val bundleDigest: String,
        val bundleCommit: String,
        val recipes: Map<String, String>,
        val backend: String,
        val precision: String,
        val threads: Int,
        val seconds: Double,
        val steps: Int,
        val warmUpMs: Double,
        val stages: Map<String, Distribution>,
        val totalsMs: List<Double>,
    ) {
        /** Timed rounds. */
        val rounds: Int get() = totalsMs.size

        /** Median total time per second of sound. */
        val realTimeFactor: Double get() = stages.getValue("total").medianMs / 1000 / seconds

        /**
         * The record as canonical JSON, times in seconds.
         *
         * @param device what the app knows of the machine: model, system, cores and so on.
         * @param more further fields of the record: date, load_seconds, peak_rss_bytes, temperatures and so on; text,
         *   numbers, true or false, null, and lists and maps of these.
         * @throws IllegalArgumentException a value of another type, or a field that the record has already.
         */
        fun toJson(device: Map<String, Any?> = emptyMap(), more: Map<String, Any?> = emptyMap()): String {
            val record = mapOf(
                "schema" to SCHEMA,
                "engine_version" to ENGINE_VERSION,
                "device" to device,
                "bundle" to bundle,
                "bundle_digest" to bundleDigest,
                "bundle_commit" to bundleCommit,
                "recipes" to recipes,
                "backend" to backend,
                "precision" to precision,
                "threads" to threads,
                "seconds" to seconds,
                "steps" to steps,
                "runs" to rounds,
                "warm_up_seconds" to warmUpMs / 1000,
                "stages" to stages.mapValues { (_, times) ->
                    mapOf("best" to times.bestMs / 1000, "median" to times.medianMs / 1000, "p95" to times.p95Ms / 1000)
                },
                "totals" to totalsMs.map { it / 1000 },
                "real_time_factor" to realTimeFactor,
            )
            val both = more.keys.filter { it in record }
            require(both.isEmpty()) { "the record has ${both.joinToString()} already" }
            return JsonWriter.canonical(record + more)
        }
    }

    /**
     * Time the stages of one request.
     *
     * @param rounds timed sounds, at least 1, after [WARM_UP_ROUNDS] that are not timed.
     * @param onRound called after every round with the number of timed rounds done and of all.
     * @throws EdgeTtaException whatever [TextToAudio.generate] throws.
     */
    fun run(
        model: TextToAudio,
        request: GenerationRequest = GenerationRequest(PROMPT),
        rounds: Int = 20,
        onRound: (Int, Int) -> Unit = { _, _ -> },
    ): Report {
        if (rounds < 1) throw RequestException("rounds $rounds is out of range: at least 1")
        val warmUp = model.generate(request).timings.totalMs
        repeat(WARM_UP_ROUNDS - 1) { model.generate(request) }
        val timings = (1..rounds).map { round ->
            model.generate(request).timings.also { onRound(round, rounds) }
        }
        val manifest = model.bundle.manifest
        return Report(
            bundle = model.bundle.name,
            bundleDigest = manifest.digest,
            bundleCommit = manifest.provenance.commit,
            recipes = manifest.provenance.recipes,
            backend = model.backend.name,
            precision = model.backend.precision,
            threads = model.backend.threads,
            seconds = request.seconds,
            steps = request.steps,
            warmUpMs = warmUp,
            stages = mapOf(
                "tokenizer" to distribution(timings.map { it.tokenizerMs }),
                "text_encoder" to distribution(timings.map { it.textEncoderMs }),
                "generator" to distribution(timings.map { it.generatorMs }),
                "decoder" to distribution(timings.map { it.decoderMs }),
                "total" to distribution(timings.map { it.totalMs }),
            ),
            totalsMs = timings.map { it.totalMs },
        )
    }

    /** Best, median and 95th percentile, between neighbours by straight lines as NumPy does. */
    fun distribution(values: List<Double>): Distribution {
        require(values.isNotEmpty()) { "no values" }
        val sorted = values.sorted()
        return Distribution(sorted.first(), percentile(sorted, 0.5), percentile(sorted, 0.95))
    }

    private fun percentile(sorted: List<Double>, share: Double): Double {
        val place = share * (sorted.size - 1)
        val below = place.toInt()
        val above = minOf(below + 1, sorted.size - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
    }
}
