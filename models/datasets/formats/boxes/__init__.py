"""Pictures with boxes in an archive: COCO JSON, Pascal VOC XML, YOLO text files, or a table with a row per box."""
