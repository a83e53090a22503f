package org.edgetta.demo

import android.app.Activity
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.EditText
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import kotlin.random.Random

/** The fields in which a user says what to make. Their contents survive a rotation as all views' do. */
class RequestForm(private val activity: Activity) {
    private val prompt: EditText = activity.findViewById(R.id.prompt)
    private val examples: Spinner = activity.findViewById(R.id.examples)
    private val secondsText: TextView = activity.findViewById(R.id.seconds_text)
    private val seconds: SeekBar = activity.findViewById(R.id.seconds)
    private val seed: EditText = activity.findViewById(R.id.seed)
    private val steps: Spinner = activity.findViewById(R.id.steps)
    private val threads: Spinner = activity.findViewById(R.id.threads)
    private val variant: Spinner = activity.findViewById(R.id.variant)
    private var model: Model? = null

    init {
        val prompts = activity.resources.getStringArray(R.array.example_prompts).toList()
        // The first line is a heading: choosing it changes nothing, so that a typed prompt is not lost.
        fill(examples, listOf(activity.getString(R.string.examples)) + prompts)
        examples.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) {
                if (position == 0) return
                prompt.setText(prompts[position - 1])
                examples.setSelection(0)
            }

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
        val cores = (1..Runtime.getRuntime().availableProcessors()).toList()
        fill(threads, cores.map { it.toString() })
        threads.setSelection(defaultThreads() - 1)
        seconds.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(bar: SeekBar?, progress: Int, fromUser: Boolean) = showSeconds()

            override fun onStartTrackingTouch(bar: SeekBar?) = Unit

            override fun onStopTrackingTouch(bar: SeekBar?) = Unit
        })
        activity.findViewById<View>(R.id.dice).setOnClickListener {
            // Short enough to write down.
            seed.setText(Random.nextInt(1_000_000).toString())
        }
        if (prompt.text.isEmpty()) prompt.setText(prompts.first())
    }

    /** Offers what a model can do; the first time, its defaults are chosen. */
    fun offer(model: Model) {
        if (model == this.model) return
        this.model = model
        seconds.max = ((model.maxSeconds - model.minSeconds) / SECONDS_STEP).toInt()
        seconds.progress = ((DEFAULT_SECONDS - model.minSeconds) / SECONDS_STEP).toInt()
        fill(steps, (1..model.maxSteps).map { it.toString() })
        fill(variant, model.variants)
        showSeconds()
    }

    /** What was asked for; null if the seed is no whole number or no model is there. */
    fun read(): DemoRequest? {
        val model = model ?: return null
        val seed = seed.text.toString().trim().toLongOrNull()?.takeIf { it >= 0 } ?: return null
        return DemoRequest(
            prompt = prompt.text.toString(),
            seconds = chosenSeconds(),
            seed = seed,
            steps = steps.selectedItemPosition + 1,
            threads = threads.selectedItemPosition + 1,
            variant = model.variants[variant.selectedItemPosition.coerceIn(model.variants.indices)],
        )
    }

    /** Shows what a command line asked for. */
    fun show(request: DemoRequest) {
        prompt.setText(request.prompt)
        seed.setText(request.seed.toString())
        val model = model ?: return
        seconds.progress = ((request.seconds - model.minSeconds) / SECONDS_STEP).toInt()
        steps.setSelection((request.steps - 1).coerceIn(0, model.maxSteps - 1))
        threads.setSelection((request.threads - 1).coerceIn(0, threads.count - 1))
        variant.setSelection(model.variants.indexOf(request.variant).coerceAtLeast(0))
    }

    private fun chosenSeconds(): Double = (model?.minSeconds ?: 0.0) + seconds.progress * SECONDS_STEP

    private fun showSeconds() {
        secondsText.text = activity.getString(R.string.seconds, chosenSeconds())
    }

    private fun fill(spinner: Spinner, items: List<String>) {
        spinner.adapter = ArrayAdapter(activity, android.R.layout.simple_spinner_item, items).apply {
            setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        }
    }

    private companion object {
        const val SECONDS_STEP = 0.5
        const val DEFAULT_SECONDS = 5.0
    }
}
