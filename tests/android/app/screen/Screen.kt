package org.edgetta.demo

import android.app.Activity.Life
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.EditText
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import edgetta.Device
import java.io.File

/**
 * Uses the whole app as a person and as a command line would, on stand-ins of Android's classes and the real networks.
 * Prints what is to be seen as "NAME = TEXT", for tests to judge.
 *
 * Arguments: resources, assets, a folder for everything that is stored.
 */
fun main(arguments: Array<String>) {
    val (resources, assets, storage) = arguments.map(::File)
    Device.resources = resources
    Device.assets = assets
    Device.storage = storage
    Device.names = R::class.java
    val session = Session(MainActivity())
    Life.start(session.activity, Intent(null as String?))
    session.say("first")
    session.untilIdle()
    session.say("opened")
    session.makesAndPlays()
    session.turns()
    session.saves(storage)
    session.refuses()
    session.cancels()
    session.measures()
    session.showsAbout()
    session.obeys("sound", Intent(null as String?).putExtra("prompt", "rain").putExtra("seconds", 1f).putExtra("seed", 5L))
    session.obeys("bench", Intent(null as String?).putExtra("bench", true).putExtra("runs", 2).putExtra("seconds", 1))
    session.obeys("wrong", Intent(null as String?).putExtra("prompt", "rain").putExtra("steps", 99))
    Life.end(session.activity)
}

private class Session(var activity: MainActivity) {
    private val external = Device.folder("external")

    fun say(name: String) {
        println("$name = ${text(R.id.status).replace("\n", " / ")}")
    }

    fun untilIdle() = check(Device.runUntil { view<View>(R.id.generate).isEnabled && !view<View>(R.id.cancel).isEnabled })

    fun makesAndPlays() {
        view<Spinner>(R.id.examples).setSelection(2)
        println("example = ${text(R.id.prompt)}")
        view<EditText>(R.id.prompt).setText("a dog barking")
        view<EditText>(R.id.seed).setText("7")
        view<SeekBar>(R.id.seconds).progress = 1
        view<Spinner>(R.id.threads).setSelection(0)
        println("length = ${text(R.id.seconds_text)}")
        println("can play before = ${view<View>(R.id.play).isEnabled}")
        click(R.id.generate)
        say("making")
        println("screen kept on = ${view<View>(R.id.waveform).keepScreenOn}")
        untilIdle()
        say("made")
        println("figures = ${text(R.id.figures).lines().size} lines")
        println("waveform = ${view<View>(R.id.waveform).contentDescription}")
        click(R.id.play)
        println("played = ${Device.played.size}")
        println("button = ${text(R.id.play)}")
        Device.runUntil { text(R.id.play) == "Play" }
        println("button after = ${text(R.id.play)}")
    }

    fun turns() {
        val young = MainActivity()
        Life.turn(activity, young)
        activity = young
        say("turned")
        println("can play after turning = ${view<View>(R.id.play).isEnabled}")
    }

    fun saves(storage: File) {
        click(R.id.save)
        val title = (Device.sent as Intent).getStringExtra(Intent.EXTRA_TITLE)
        println("title = $title")
        Life.answer(activity, Documents.SAVE_SOUND, Intent(null as String?).setData(Uri.parse(File(storage, "saved.wav").path)))
        Device.runUntil { text(R.id.status) == "Saved" }
        say("saved")
        Life.answer(activity, Documents.SAVE_BENCHMARK, Intent(null as String?).setData(Uri.parse("/nowhere")))
        say("gone")
        Life.answer(activity, Documents.SAVE_SOUND, Intent(null as String?).setData(Uri.parse("/nowhere/at/all.wav")))
        Device.runUntil { text(R.id.status).contains("nowhere") }
        say("unsaved")
    }

    fun refuses() {
        view<EditText>(R.id.seed).setText("-1")
        click(R.id.generate)
        say("wrong seed")
        view<EditText>(R.id.seed).setText("7")
        view<EditText>(R.id.prompt).setText("  ")
        click(R.id.generate)
        untilIdle()
        say("no prompt")
        view<EditText>(R.id.prompt).setText("a dog barking")
    }

    fun cancels() {
        click(R.id.generate)
        click(R.id.cancel)
        untilIdle()
        say("cancelled")
    }

    fun measures() {
        click(R.id.benchmark)
        println("measuring = ${text(R.id.status).take(9)}")
        untilIdle()
        println("measured = ${text(R.id.status).take(14)}")
        println("can save = ${view<View>(R.id.save_benchmark).isEnabled}")
    }

    fun showsAbout() {
        Device.sent = null
        click(R.id.about)
        Device.runUntil { Device.sent != null }
        println("about = ${(Device.sent as android.widget.ListView).count > 100}")
    }

    fun obeys(name: String, intent: Intent) {
        val result = File(external, Automation.RESULT)
        Life.bring(activity, intent)
        check(Device.runUntil { result.isFile })
        println("$name = ${result.readText()}")
        untilIdle()
    }

    private fun click(id: Int) = view<View>(id).performClick()

    private fun text(id: Int): String = view<TextView>(id).text.toString()

    private fun <T : View> view(id: Int): T = activity.findViewById(id)
}
