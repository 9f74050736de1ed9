"""Transforms for mmcv pipelines: files in, `{"image", "sample"}` out. Results keys follow mmcv (`img` is BGR).

Each is imported when its name is used.
"""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "..noun_prompts": ["AddNounPrompts", "NltkNouns", "RuleNouns", "WordListNouns"],
        ".augment": ["ColorJitter", "GaussianBlur", "RandAugment", "RandomErasing", "RandomGrayscale"],
        ".crops": ["RandomResizedCrop", "ResizeCenterCrop"],
        ".edit_captions": ["AddEditedCaption"],
        ".geometry": ["LargeScaleJitter", "RandomFlip", "RandomScaleCrop", "Resize", "TakeAsOriginal"],
        ".loading": ["LoadImage", "LoadInstances", "LoadLabels"],
        ".packing": ["PackSample"],
        ".photometric": ["PhotometricDistortion"],
        ".regions": ["EmbedRegions", "LoadRegions"],
        ".views": ["CropViews", "PackViews"],
    },
)
