import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.edgetta.backends.OrtBackend
import org.edgetta.engine.Bundle
import org.edgetta.engine.EdgeTtaException
import org.edgetta.engine.GenerationRequest
import org.edgetta.engine.TextToAudio

/**
 * Makes the sounds of a list with the app's own engine and backend, for tests to compare.
 *
 * Arguments: bundle, folder for scratch files and results, variant, threads, and the list: a line each of seconds, seed,
 * steps and prompt, parted by tabs. Sound number N becomes N.f32, little-endian samples. Every line of output is
 * "N milliseconds", or "N KIND: message" for what failed.
 */
fun main(arguments: Array<String>) {
    val (root, folder, variant, threads, list) = arguments
    val bundle = Bundle.open(File(root), File(folder, "scratch"))
    val backend = try {
        OrtBackend(bundle, variant, threads.toInt())
    } catch (error: EdgeTtaException) {
        println("open ${error.javaClass.simpleName}: ${error.message}")
        return
    }
    TextToAudio(bundle, backend).use { model ->
        File(list).readLines().forEachIndexed { number, line ->
            val (seconds, seed, steps, prompt) = line.split("\t", limit = 4)
            try {
                if (prompt == "close the backend") backend.close()
                val request = GenerationRequest(prompt, seconds.toDouble(), seed.toLong(), steps.toInt())
                val result = model.generate(request)
                write(File(folder, "$number.f32"), result.samples)
                println("$number ${result.timings.totalMs}")
            } catch (error: EdgeTtaException) {
                println("$number ${error.javaClass.simpleName}: ${error.message}")
            }
        }
    }
}

private fun write(file: File, samples: FloatArray) {
    val bytes = ByteBuffer.allocate(4 * samples.size).order(ByteOrder.LITTLE_ENDIAN)
    bytes.asFloatBuffer().put(samples)
    file.writeBytes(bytes.array())
}
