package org.edgetta.engine

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64
import java.util.concurrent.CountDownLatch
import kotlin.concurrent.thread

/** Reads commands from standard input, a JSON object a line, and answers each with a line: {"ok": …} or {"error": …}. */
fun main() {
    val answers = System.out
    generateSequence(::readLine).forEach { line ->
        val answer = try {
            val command = Arguments.of(JsonReader.parse(line, maxDepth = 16))
            mapOf("ok" to answer(command.text("do"), command))
        } catch (error: Throwable) {
            mapOf("error" to error.javaClass.simpleName, "message" to error.message.orEmpty())
        }
        answers.println(JsonWriter.canonical(answer))
        answers.flush()
    }
}

private fun answer(name: String, arguments: Arguments): Any? = when (name) {
    "assigned" -> assigned()
    "case" -> mapOf("lower" to Unicode.lowerCase(arguments.text("text")))
    "canonical" -> JsonWriter.canonical(JsonReader.parse(arguments.text("text"), 8))
    "doubles" -> arguments.texts("bits").map { JsonWriter.number(Double.fromBits(it.toULong(16).toLong())) }
    "general" -> arguments.texts("bits").map {
        Numbers.general(Double.fromBits(it.toULong(16).toLong()), arguments.int("digits"))
    }
    "tokenize" -> tokenize(arguments)
    "layers" -> arguments.texts("prompts").map { prompt ->
        orRefusal { GenerationRequest(prompt).layers.map { listOf(it.prompt, it.levelDb) } }
    }
    "noise" -> packed(Noise.gaussian(arguments.long("seed"), arguments.int("count"), arguments.long("stream")))
    "grid" -> Sampler.pingPongGrid(arguments.int("steps")).map { it.toRawBits().toULong().toString(16) }
    "sample" -> sample(arguments)
    "finish" -> finish(arguments)
    "wave" -> Base64.getEncoder().encodeToString(
        WaveFile.encode(arguments.floats("samples"), arguments.int("channels"), arguments.int("sample_rate")),
    )
    "open" -> open(arguments)
    "parse" -> Manifest.parse(File(arguments.text("path")).readBytes()).digest
    "inspect" -> arguments.texts("files").map { inspect(Base64.getDecoder().decode(it)) }
    "stage_file" -> bundle(arguments).stageFile(arguments.text("variant"), arguments.text("stage")).path
    "request" -> request(arguments).prompt
    "engine_version" -> ENGINE_VERSION
    else -> answerOfModel(name, arguments)
}

private fun answerOfModel(name: String, arguments: Arguments): Any? = when (name) {
    "generate" -> model(arguments).use { made(it.generate(request(arguments))) }
    "cancel" -> cancel(arguments)
    "close" -> close(arguments)
    "bench" -> bench(arguments)
    "distribution" -> Bench.distribution(arguments.doubles("values")).let { listOf(it.bestMs, it.medianMs, it.p95Ms) }
    else -> throw IllegalArgumentException("unknown command $name")
}

/** First and last of every run of characters that this system's Unicode tables know. */
private fun assigned(): List<List<Int>> {
    val runs = ArrayList<List<Int>>()
    var first = -1
    for (point in 0..Character.MAX_CODE_POINT + 1) {
        val known = point <= Character.MAX_CODE_POINT && Character.getType(point) != Character.UNASSIGNED.toInt()
        if (known && first < 0) first = point
        if (!known && first >= 0) {
            runs.add(listOf(first, point - 1))
            first = -1
        }
    }
    return runs
}

private fun tokenize(arguments: Arguments): List<Any?> {
    val tokenizer = Tokenizer(File(arguments.text("model")).readBytes(), arguments.int("max_tokens"))
    return arguments.texts("prompts").map { prompt ->
        orRefusal {
            val found = tokenizer.encode(prompt)
            mapOf("ids" to found.ids.toList(), "dropped" to found.dropped, "text" to found.text)
        }
    }
}

private fun orRefusal(answer: () -> Any?): Any? = try {
    answer()
} catch (error: EdgeTtaException) {
    mapOf("error" to error.javaClass.simpleName, "message" to error.message)
}

private fun sample(arguments: Arguments): Map<String, Any?> {
    val visited = ArrayList<List<Double>>()
    val noise = arguments.floats("noise")
    val velocity = Velocity { latent, time, duration ->
        visited.add(listOf(time, duration))
        FloatArray(latent.size) { latent[it] * 0.75f + time.toFloat() - duration.toFloat() * 0.5f }
    }
    val steps = arguments.int("steps")
    val latent = if (arguments.text("sampler") == "ping-pong") {
        Sampler.pingPong(velocity, noise, steps, { step -> Noise.gaussian(7, noise.size, step.toLong()) })
    } else {
        Sampler.walk(velocity, noise, steps)
    }
    return mapOf("latent" to packed(latent), "visited" to visited)
}

private fun finish(arguments: Arguments): Map<String, Any?> {
    val found = Finish.finish(
        arguments.floats("waveform"),
        arguments.int("channels"),
        arguments.int("frames"),
        arguments.int("sample_rate"),
    )
    return mapOf("samples" to packed(found.samples), "gain" to found.gain.toDouble(), "warnings" to found.warnings)
}

private fun bundle(arguments: Arguments): Bundle =
    Bundle.open(File(arguments.text("root")), File(arguments.text("scratch")))

private fun open(arguments: Arguments): Map<String, Any?> {
    val bundle = bundle(arguments)
    val manifest = bundle.manifest
    return mapOf(
        "name" to bundle.name,
        "digest" to manifest.digest,
        "audio" to with(manifest.audio) {
            listOf(sampleRate, channels, hop, latentChannels, minSeconds, maxSeconds)
        },
        "generation" to with(manifest.generation) {
            listOf(defaultGuidance, minGuidance, maxGuidance, maxSteps, sampler)
        },
        "pieces" to bundle.tokenizer().vocabularySize,
        "variants" to manifest.variants.mapValues { (_, variant) ->
            mapOf(
                "backend" to variant.backend,
                "precision" to variant.precision,
                "size" to variant.size(),
                "delegate" to variant.delegate,
                "parity" to variant.paritySnrDb,
                "stages" to variant.stages.mapValues { (_, stage) -> described(stage) },
            )
        },
    )
}

/** Why a graph is refused; null if it is not. */
private fun inspect(data: ByteArray): String? = try {
    OnnxInspection.inspect("stage.onnx", ByteBuffer.wrap(data))
    null
} catch (error: BundleException) {
    error.message
}

private fun described(stage: StageFile): Map<String, Any?> = mapOf(
    "file" to stage.file,
    "bytes" to stage.bytes,
    "sha256" to stage.sha256,
    "inputs" to stage.inputs.map { listOf(it.name, it.dtype, it.shape) },
    "outputs" to stage.outputs.map { listOf(it.name, it.dtype, it.shape) },
    "stored" to stage.stored().map { (path, size) -> listOf(path, size) },
)

private fun request(arguments: Arguments): GenerationRequest {
    val request = arguments.fields("request")
    return GenerationRequest(
        prompt = request.text("prompt"),
        seconds = request.double("seconds", 5.0),
        seed = request.long("seed"),
        steps = request.int("steps", 1),
        guidance = if (request.has("guidance")) request.double("guidance", 0.0) else null,
    )
}

private fun model(arguments: Arguments, onStage: (String) -> Unit = {}): TextToAudio {
    val bundle = bundle(arguments)
    val gain = arguments.double("gain", 1.0).toFloat()
    val fault = if (arguments.has("fault")) arguments.text("fault") else ""
    return TextToAudio(bundle, FakeBackend(bundle.manifest.audio, gain, fault, onStage))
}

private fun made(result: Result): Map<String, Any?> = mapOf(
    "samples" to packed(result.samples),
    "wave" to Base64.getEncoder().encodeToString(WaveFile.encode(result)),
    "channels" to result.channels,
    "frames" to result.frames,
    "sample_rate" to result.sampleRate,
    "warnings" to result.warnings,
    "timings" to with(result.timings) { listOf(tokenizerMs, textEncoderMs, generatorMs, decoderMs, totalMs) },
)

/** Cancel from another thread while a stage runs, then generate again: what became of both, and the stages that ran. */
private fun cancel(arguments: Arguments): Map<String, Any?> {
    val during = arguments.text("during")
    val begun = CountDownLatch(1)
    val told = CountDownLatch(1)
    val stages = ArrayList<String>()
    val model = model(arguments) { stage ->
        stages.add(stage)
        if (stage == during && begun.count > 0) {
            begun.countDown()
            told.await()
        }
    }
    var first = ""
    val call = thread {
        first = try {
            model.generate(request(arguments))
            "made"
        } catch (error: EdgeTtaException) {
            error.javaClass.simpleName
        }
    }
    begun.await()
    model.cancel()
    told.countDown()
    call.join()
    val stagesOfFirst = stages.toList()
    val second = model.generate(request(arguments)).frames
    return mapOf("first" to first, "stages" to stagesOfFirst, "second" to second)
}

/** Close from another thread while a stage runs: what became of the call and of one that comes later. */
private fun close(arguments: Arguments): Map<String, Any?> {
    val bundle = bundle(arguments)
    val begun = CountDownLatch(1)
    val told = CountDownLatch(1)
    val backend = FakeBackend(bundle.manifest.audio, 1f, "") { stage ->
        if (stage == "text_encoder") {
            begun.countDown()
            told.await()
        }
    }
    val model = TextToAudio(bundle, backend)
    val messages = ArrayList<String>()
    fun attempt() {
        try {
            model.generate(request(arguments))
            messages.add("made")
        } catch (error: EdgeTtaException) {
            messages.add("${error.javaClass.simpleName}: ${error.message}")
        }
    }
    val call = thread { attempt() }
    begun.await()
    // Closing waits for the call, which must have seen that it is to stop.
    val closing = thread { model.close() }
    while (closing.state != Thread.State.BLOCKED) Thread.sleep(1)
    told.countDown()
    call.join()
    closing.join()
    attempt()
    return mapOf("messages" to messages, "closed" to backend.closed)
}

private fun bench(arguments: Arguments): Any? = model(arguments).use { model ->
    val rounds = ArrayList<Int>()
    val report = Bench.run(model, request(arguments), arguments.int("rounds")) { done, _ -> rounds.add(done) }
    val more = mapOf("load_seconds" to 0.25, "peak_rss_bytes" to null)
    mapOf("record" to report.toJson(mapOf("model" to "none", "cores" to 8), more), "rounds" to rounds)
}

private fun packed(values: FloatArray): String {
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    bytes.asFloatBuffer().put(values)
    return Base64.getEncoder().encodeToString(bytes.array())
}

/** Typed access to a command. */
private class Arguments(private val values: Map<*, *>) {
    companion object {
        fun of(value: Any?) = Arguments(value as Map<*, *>)
    }

    fun has(name: String) = values.containsKey(name)

    fun text(name: String) = values[name] as String

    fun texts(name: String) = (values[name] as List<*>).map { it as String }

    fun doubles(name: String) = (values[name] as List<*>).map { (it as Number).toDouble() }

    fun fields(name: String) = of(values[name])

    fun long(name: String, otherwise: Long = 0) = (values[name] as Long?) ?: otherwise

    fun int(name: String, otherwise: Int = 0) = long(name, otherwise.toLong()).toInt()

    /** Numbers, and the words that JSON has no number for. */
    fun double(name: String, otherwise: Double): Double = when (val value = values[name]) {
        null -> otherwise
        is String -> value.toDouble()
        else -> (value as Number).toDouble()
    }

    fun floats(name: String): FloatArray {
        val bytes = ByteBuffer.wrap(Base64.getDecoder().decode(text(name))).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) }
    }
}
