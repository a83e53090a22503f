package org.edgetta.demo

import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.TextView
import org.edgetta.engine.WaveFile

/** The one screen: says what the controller's state is, and hands on what the user does. */
class MainActivity : Activity() {
    private lateinit var controller: Controller
    private lateinit var form: RequestForm
    private val player = Player { playing -> button(R.id.play).setText(if (playing) R.string.stop else R.string.play) }
    private var about: AlertDialog? = null

    /** What a command line asked for and the model is not open for yet. */
    private var waiting: Automation? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        // Rotation makes a new activity; the controller, with model and sound, is handed on.
        val kept = lastNonConfigurationInstance as? Controller
        controller = kept ?: Controller(this)
        form = RequestForm(this)
        controller.state.model?.let(form::offer)
        listen()
        controller.listener = ::show
        show(controller.state)
        // A start is carried out once, however often the screen is turned.
        if (saved == null) automate(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        automate(intent)
    }

    override fun onRetainNonConfigurationInstance(): Any = controller

    override fun onStop() {
        player.stop()
        super.onStop()
    }

    override fun onDestroy() {
        about?.dismiss()
        controller.listener = null
        if (!isChangingConfigurations) controller.close()
        super.onDestroy()
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        val place = data?.data?.takeIf { resultCode == RESULT_OK } ?: return
        val sound = controller.state.sound
        val benchmark = controller.state.benchmark
        when {
            requestCode == Documents.SAVE_SOUND && sound != null ->
                controller.save(place) { WaveFile.encode(sound.result) }
            requestCode == Documents.SAVE_BENCHMARK && benchmark != null ->
                controller.save(place) { benchmark.toByteArray() }
            // The system may end an app behind a dialog and start it anew.
            else -> controller.refuse(getString(R.string.error_save, getString(R.string.error_gone)))
        }
    }

    private fun listen() {
        button(R.id.generate).setOnClickListener { ask { controller.generate(it) } }
        button(R.id.benchmark).setOnClickListener { ask { controller.benchmark(it) } }
        button(R.id.cancel).setOnClickListener { controller.cancel() }
        button(R.id.play).setOnClickListener { playOrStop() }
        button(R.id.save).setOnClickListener {
            controller.state.sound?.let { sound ->
                val name = Documents.fileName(sound.request.prompt, sound.request.seed)
                choosePlace(Documents.soundIntent(name), Documents.SAVE_SOUND)
            }
        }
        button(R.id.save_benchmark).setOnClickListener {
            choosePlace(Documents.benchmarkIntent("edge_tta-benchmark"), Documents.SAVE_BENCHMARK)
        }
        button(R.id.about).setOnClickListener {
            controller.readAbout { lines -> if (!isDestroyed) about = About.show(this, lines) }
        }
    }

    /** Hands what the form says to [action], or says what is wrong with it. */
    private fun ask(action: (DemoRequest) -> Unit) {
        player.stop()
        val request = form.read()
        if (request == null) controller.refuse(getString(R.string.error_seed)) else action(request)
    }

    private fun show(state: DemoState) {
        state.model?.let(form::offer)
        findViewById<TextView>(R.id.status).apply {
            text = state.message
            setTextColor(if (state.failed) getColor(R.color.error) else findViewById<TextView>(R.id.figures).currentTextColor)
        }
        val ready = state.phase == Phase.READY
        button(R.id.generate).isEnabled = ready
        button(R.id.benchmark).isEnabled = ready
        button(R.id.about).isEnabled = ready
        button(R.id.cancel).isEnabled = state.busy
        button(R.id.play).isEnabled = state.sound != null
        button(R.id.save).isEnabled = state.sound != null
        button(R.id.save_benchmark).isEnabled = state.benchmark != null
        val waveform = findViewById<WaveformView>(R.id.waveform)
        // A dark screen slows the processor down.
        waveform.keepScreenOn = state.busy
        state.sound?.let { sound ->
            waveform.show(sound.result.samples, sound.result.channels)
            waveform.contentDescription = getString(R.string.waveform_filled, sound.result.seconds)
            findViewById<TextView>(R.id.figures).text = figures(sound)
        }
        startWaiting(state)
    }

    private fun figures(sound: Sound): String {
        val timings = sound.result.timings
        return getString(
            R.string.figures,
            timings.tokenizerMs,
            timings.textEncoderMs,
            timings.generatorMs,
            timings.decoderMs,
            timings.totalMs,
            sound.result.realTimeFactor,
            sound.peakBytes shr 20,
            sound.openSeconds * 1000,
        )
    }

    private fun playOrStop() {
        if (player.playing) return player.stop()
        val result = controller.state.sound?.result ?: return
        try {
            player.play(result.samples, result.channels, result.sampleRate)
        } catch (error: IllegalStateException) {
            controller.refuse(getString(R.string.error_playback, error.message))
        }
    }

    private fun choosePlace(intent: Intent, code: Int) {
        try {
            startActivityForResult(intent, code)
        } catch (error: ActivityNotFoundException) {
            controller.refuse(getString(R.string.error_save, error.message))
        }
    }

    private fun automate(intent: Intent) {
        waiting = Automation.of(intent) ?: return
        clearResults()
        startWaiting(controller.state)
    }

    private fun clearResults() {
        getExternalFilesDir(null)?.let(Automation::clear)
    }

    /** Starts what a command line asked for as soon as nothing else is under way. */
    private fun startWaiting(state: DemoState) {
        val asked = waiting ?: return
        val model = state.model
        if (state.phase == Phase.UNUSABLE) {
            waiting = null
            controller.reportFailure(state.message)
        } else if (state.phase == Phase.READY && model != null) {
            waiting = null
            // What was under way when this was asked for may have written its results since.
            clearResults()
            val request = asked.request(model)
            form.show(request)
            if (asked.bench) controller.benchmark(request, asked.runs, true) else controller.generate(request, true)
        }
    }

    private fun button(id: Int): Button = findViewById(id)
}
