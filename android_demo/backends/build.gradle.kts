plugins {
    alias(libs.plugins.android.library)
}

android {
    namespace = "org.edgetta.backends"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        minSdk = libs.versions.minSdk.get().toInt()
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    api(project(":engine"))
    implementation(libs.onnxruntime.android)
    implementation(libs.executorch.android)
}
